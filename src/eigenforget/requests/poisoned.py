"""poisoned: training samples that carry a planted backdoor, as far as they were discovered."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import UpTo1, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates

COLUMN = "poisoned"


@configured
class PoisonedSamples:
    """Forget the discovered share of the poisoned training samples.

    These are the samples whose index column "poisoned" is 1; those that were not discovered stay in
    the retain set. The draw depends on the seed and the ids.
    """

    name: ClassVar[str] = "poisoned"
    personal: ClassVar[dict[str, str]] = {}
    known: Annotated[UpTo1, "share of the poisoned samples that was discovered"] = 1.0
    seed: Annotated[WholeNumber, "which of them were discovered"] = 0
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget.

        Raises:
            EigenforgetError: There is no such column or no poisoned sample, or the share rounds to
                none.
        """
        return discovered(index, COLUMN, self.known, (self.seed, self.name))


def discovered(index: Index, column: str, known: float, draw: tuple[int, str]) -> np.ndarray:
    """Positions of a drawn share of the samples that a column of the index marks with 1.

    Args:
        index: The training data.
        column: The column; its name says in messages what the samples are.
        known: The share.
        draw: Seed and purpose of the draw, which depends on the ids too and on no order.

    Raises:
        EigenforgetError: There is no such column or no marked sample, or the share rounds to none.
    """
    rows = np.flatnonzero(index.column(column) == 1)
    count = round(known * len(rows))
    if count == 0:
        raise EigenforgetError(
            f"known={known} of the {len(rows)} {column} samples rounds to none: nothing would be "
            "forgotten"
        )
    return np.sort(index.drawn(rows, count, np.random.default_rng(seeds.derive(*draw))))
