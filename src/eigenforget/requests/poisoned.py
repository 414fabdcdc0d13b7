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
        rows = np.flatnonzero(index.column(COLUMN) == 1)
        count = round(self.known * len(rows))
        if count == 0:
            raise EigenforgetError(
                f"known={self.known} of the {len(rows)} poisoned samples are none: nothing would "
                "be forgotten"
            )
        by_id = rows[np.argsort(index.ids[rows], kind="stable")]
        drawn = np.random.default_rng(seeds.derive(self.seed, self.name)).permutation(len(by_id))[
            :count
        ]
        return np.sort(by_id[drawn])
