"""confused_samples: training samples whose labels were mixed up, as far as they were discovered."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.fields import UpTo1, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.poisoned import discovered
from eigenforget.requests.request import Duplicates


@configured
class ConfusedSamples:
    """Forget the discovered share of the samples that bear the label of another class.

    These are the samples whose index column "confused" is 1, as the data set `confused(…)` marks
    them. Those that were not discovered stay in the retain set. The draw depends on the seed and
    the ids. Source: interclass confusion, Goel et al. (arXiv 2201.06640).
    """

    name: ClassVar[str] = "confused_samples"
    personal: ClassVar[dict[str, str]] = {}
    known: Annotated[UpTo1, "share of the confused samples that was discovered"] = 1.0
    seed: Annotated[WholeNumber, "which of them were discovered"] = 0
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget.

        Raises:
            EigenforgetError: There is no such column or no confused sample, or the share rounds to
                none.
        """
        return discovered(index, "confused", self.known, (self.seed, self.name))
