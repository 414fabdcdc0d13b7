"""at_random: a drawn share or number of samples."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core import seeds
from eigenforget.core.fields import Between01, Count, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates, how_many, rows_of_classes

_USUAL_SHARE = 0.1


@configured
class AtRandom:
    """Forget a random share, or n, of the training samples.

    The choice depends on the seed and the ids, not on their order. With `label`, samples are drawn
    from these classes only, and `fraction` is a share of them.
    """

    name: ClassVar[str] = "at_random"
    personal: ClassVar[dict[str, str]] = {}
    fraction: Annotated[
        Between01 | None,
        f"share of the samples to draw from; {_USUAL_SHARE} where n is not given either",
    ] = None
    n: Annotated[Count | None, "number of samples, in place of fraction"] = None
    seed: Annotated[WholeNumber, "which samples are drawn"] = 0
    label: Annotated[
        int | tuple[int, ...] | None, "class, or classes as a tuple, to draw from; None is all"
    ] = None
    duplicates: Duplicates = "error"

    def __post_init__(self) -> None:
        if self.fraction is not None and self.n is not None:
            raise ValueError("give fraction or n, not both")
        if self.fraction is None and self.n is None:
            # Set here, so that a record shows the share that was drawn, and at_random() equals
            # at_random(fraction=0.1).
            object.__setattr__(self, "fraction", _USUAL_SHARE)

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        rows = np.arange(len(index)) if self.label is None else rows_of_classes(index, self.label)
        count = how_many(fraction=self.fraction, n=self.n, rows=len(rows), what=self.name)
        draw = np.random.default_rng(seeds.derive(self.seed, "at_random"))
        return np.sort(index.drawn(rows, count, draw))
