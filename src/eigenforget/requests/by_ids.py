"""by_ids: named samples, the usual form of a deletion request."""

from __future__ import annotations

import functools
import sys
from typing import Annotated, ClassVar, TextIO

import numpy as np
from pydantic import BeforeValidator

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.record import RecordError
from eigenforget.record.reading import read_bytes
from eigenforget.requests.request import MOST_BYTES_OF_LIST, Duplicates, as_tuple


@configured
class ByIds:
    """Forget the training samples with these ids.

    They are given here, or one per line in a text file or on standard input. With path="-" the spec
    alone does not say what was asked for; the digest of the split does.
    """

    name: ClassVar[str] = "by_ids"
    personal: ClassVar[dict[str, str]] = {"ids": "id"}
    ids: Annotated[tuple[str, ...], BeforeValidator(as_tuple), "sample ids"] = ()
    path: Annotated[
        str, "text file with one id per line, '-' for standard input; blank lines are skipped"
    ] = ""
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        wanted = list(dict.fromkeys((*self.ids, *self._from_file())))
        if not wanted:
            raise EigenforgetError(
                "by_ids selects nothing: give ids=(…) or path='…' with one id per line"
            )
        where = {str(name): position for position, name in enumerate(index.ids)}
        missing = [name for name in wanted if name not in where]
        if missing:
            raise EigenforgetError(f"ids not in the training data: {listed(missing)}")
        return np.sort(np.asarray([where[name] for name in wanted], dtype=np.int64))

    def _from_file(self) -> list[str]:
        if not self.path:
            return []
        try:
            # utf-8-sig: some editors put a byte-order mark before the first id.
            text = (
                _all_of(sys.stdin)
                if self.path == "-"
                else read_bytes(self.path, MOST_BYTES_OF_LIST).decode("utf-8-sig")
            )
        except (OSError, UnicodeDecodeError, RecordError) as error:
            hint = "; path='-' reads standard input" if "no regular" in str(error) else ""
            raise EigenforgetError(
                f"cannot read the id list {self.path!r}: {error}{hint}"
            ) from None
        return [line.strip() for line in text.splitlines() if line.strip()]


@functools.lru_cache(maxsize=1)
def _all_of(stream: TextIO | None) -> str:
    """The whole stream: it can be read once only, but a request may be asked more than once."""
    if stream is None:
        raise OSError("there is no standard input")
    return stream.read()
