"""by_ids: named samples, the usual form of a deletion request."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Annotated, ClassVar, TextIO

import numpy as np
from pydantic import BeforeValidator

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.data.readers import csv_columns
from eigenforget.record import RecordError
from eigenforget.requests.request import Duplicates, as_tuple, ids_of, text_of_list


@configured
class ByIds:
    """Forget the training samples with these ids.

    They are given here, or one per line in a text file or on standard input, or in a column of a
    CSV file. A longer path also finds an id that is its end after a "/", such as the full path of a
    picture if ids are paths within its folder. With path="-" the spec alone does not say what was
    asked for, but the digest of the split does.
    """

    name: ClassVar[str] = "by_ids"
    personal: ClassVar[dict[str, str]] = {"ids": "id"}
    ids: Annotated[tuple[str, ...], BeforeValidator(as_tuple), "sample ids"] = ()
    path: Annotated[
        str, "text file with one id per line, '-' for standard input; blank lines are skipped"
    ] = ""
    column: Annotated[str, "column of a CSV file with the ids; '' reads whole lines"] = ""
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        wanted = list(dict.fromkeys((*self.ids, *self._from_file())))
        if not wanted:
            raise EigenforgetError(
                "by_ids selects nothing: give ids=(…) or path='…' with one id per line"
            )
        where = {str(name): position for position, name in enumerate(index.ids)}
        found = {name: _position(name, where) for name in wanted}
        missing = [name for name, position in found.items() if position is None]
        if missing:
            raise EigenforgetError(
                f"ids not in the training data: {listed(missing)}; its ids look like "
                f"{listed(index.ids[:3])}"
            )
        return np.unique(np.asarray(list(found.values()), dtype=np.int64))

    def _from_file(self) -> list[str]:
        if not self.path:
            return []
        try:
            text = _all_of(sys.stdin) if self.path == "-" else text_of_list(self.path)
        except (OSError, UnicodeDecodeError, RecordError) as error:
            hint = "; path='-' reads standard input" if "no regular" in str(error) else ""
            raise EigenforgetError(
                f"cannot read the id list {self.path!r}: {error}{hint}"
            ) from None
        if self.column:
            return _cells(text, self.column, self.path)
        return ids_of(text)


def _position(name: str, where: Mapping[str, int]) -> int | None:
    """Where an id stands; of a path, where the longest part at its end that is an id stands."""
    rest = name.replace("\\", "/") if name not in where else name
    while rest not in where and "/" in rest:
        rest = rest.partition("/")[2]
    return where.get(rest)


def _cells(text: str, column: str, path: str) -> list[str]:
    """The cells of a column of a CSV file whose first line has the names."""
    try:
        columns = csv_columns(text).columns
    except EigenforgetError as error:
        raise EigenforgetError(f"the id list {path!r} is no CSV file: {error}") from None
    if column not in columns:
        raise EigenforgetError(
            f"the id list {path!r} has no column {column!r}; it has {listed(columns) or 'none'}"
        )
    return [cell.strip() for cell in columns[column].text if cell.strip()]


@functools.lru_cache(maxsize=1)
def _all_of(stream: TextIO | None) -> str:
    """The whole stream: it can be read once only, but a request may be asked more than once."""
    if stream is None:
        raise OSError("there is no standard input")
    return stream.read()
