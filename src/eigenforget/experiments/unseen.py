"""Samples of the test side that methods may see; no score of the test side counts them then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.record import RecordError, value_digest
from eigenforget.requests.request import ids_of, text_of_list

_CURE = "give a share of the test side such as 0.1, or a text file with one of its ids per line"


@dataclass(frozen=True)
class UnseenSamples:
    """Which samples of the test side a method may see.

    Attributes:
        share: Share of each class, drawn by the ids alone: all models of one comparison see the
            same samples and are measured on the same others. At least one of each class that has
            two.
        path: Text file with one id per line, in the place of a share.
    """

    share: float = 0.0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> UnseenSamples:
        """What "0.1" or the name of a file means.

        Raises:
            EigenforgetError: It is a number outside of 0 … 1, or no file.
        """
        try:
            share = float(text)
        except ValueError:
            if not Path(text).is_file():
                raise EigenforgetError(f"--unseen {text!r} is not a file; {_CURE}") from None
            return cls(path=text)
        if not 0 < share < 1:
            raise EigenforgetError(f"--unseen {text} must be between 0 and 1; {_CURE}")
        return cls(share)

    def __str__(self) -> str:
        """As `parse` takes it."""
        return self.path or repr(self.share)

    def rows(self, test: Index) -> np.ndarray:
        """Their positions on the test side, in order.

        Raises:
            EigenforgetError: The file cannot be read, or names ids that the test side does not
                have.
        """
        if self.path:
            return self._listed(test)
        found = []
        for label in np.unique(test.labels):
            own = np.flatnonzero(test.labels == label)
            draw = np.random.default_rng(seeds.derive(0, "unseen", int(label)))
            count = min(max(1, round(self.share * len(own))), len(own) - 1)
            found.append(test.drawn(own, count, draw))
        return np.sort(np.concatenate(found))

    def _listed(self, test: Index) -> np.ndarray:
        try:
            wanted = ids_of(text_of_list(self.path))
        except (UnicodeDecodeError, RecordError) as error:
            raise EigenforgetError(f"cannot read the unseen samples: {error}; {_CURE}") from None
        missing = np.setdiff1d(np.array(wanted, dtype=np.str_), test.ids.astype(np.str_))
        if not wanted or len(missing):
            said = f"ids that are not on the test side: {listed(missing)}" if wanted else "no id"
            raise EigenforgetError(f"{self.path} names {said}; {_CURE}")
        return np.flatnonzero(np.isin(test.ids, wanted))


def positions_of_unseen(choices: Sequence[UnseenSamples], test: Index) -> np.ndarray:
    """The positions on the test side of all of them together, in order.

    Raises:
        EigenforgetError: They leave no sample to measure on.
    """
    found = np.zeros(len(test), dtype=bool)
    for choice in choices:
        found[choice.rows(test)] = True
    if found.all():
        raise EigenforgetError(
            f"the unseen samples are all {len(test)} of the test side, so none is left to measure "
            "on; name fewer"
        )
    return np.flatnonzero(found)


def digest_of_unseen(ids: np.ndarray, key: bytes) -> str:
    """The digest over the ids of unseen samples; with a secret key no guess can be confirmed."""
    return value_digest({"key": key.hex(), "unseen": sorted(map(str, ids))})


def described_unseen(
    choices: Sequence[UnseenSamples], test: Index, rows: np.ndarray, key: bytes = b""
) -> dict[str, Any]:
    """What a record says of them: how they were named, their number and digest."""
    return {
        "spec": ", ".join(map(str, choices)),
        "count": len(rows),
        "digest": digest_of_unseen(test.ids[rows], key),
    }
