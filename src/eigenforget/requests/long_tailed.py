"""long_tailed: samples of all classes, of some classes many and of others few."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Count, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates, how_many


@configured
class LongTailed:
    """Forget n samples whose classes are as uneven as a long tail.

    The classes are put in a seeded order. Each class gets fewer of the n samples than the class
    before it, always by the same factor, so that the first class has `ratio` times as many as the
    last. Each class has at least one sample; the exact shares are rounded by largest remainders.
    Within a class the draw depends on the seed and the ids, not on their order.

    Source: the exponential profile is that of long-tailed CIFAR (Cui et al., arXiv 1901.05555),
    here of the forget set and not of the training data.
    """

    name: ClassVar[str] = "long_tailed"
    personal: ClassVar[dict[str, str]] = {}
    n: Annotated[Count, "number of samples"]
    ratio: Annotated[float, Field(ge=1), "samples of the first class over those of the last"] = 10.0
    seed: Annotated[WholeNumber, "order of the classes, and which samples"] = 0
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget.

        Raises:
            EigenforgetError: There are fewer samples than n in all or in a class, or fewer n than
                classes.
        """
        how_many(fraction=None, n=self.n, rows=len(index), what=self.name)
        labels = np.unique(index.labels)
        if self.n < len(labels):
            raise EigenforgetError(
                f"{self.name}: n={self.n} is fewer than the {len(labels)} classes, of which each "
                "has one sample at least"
            )
        draw = np.random.default_rng(seeds.derive(self.seed, self.name))
        counts = tail_counts(self.n, classes=len(labels), ratio=self.ratio)
        found = []
        for label, count in zip(draw.permutation(labels), counts, strict=True):
            rows = np.flatnonzero(index.labels == label)
            if count > len(rows):
                raise EigenforgetError(
                    f"{self.name}: class {label} has {len(rows)} samples and {count} are to be "
                    "forgotten; take a smaller n or ratio"
                )
            found.append(index.drawn(rows, count, draw))
        return np.sort(np.concatenate(found))


def tail_counts(n: int, *, classes: int, ratio: float) -> list[int]:
    """How many samples each class gets, from many to few: n in all, at least one each.

    Args:
        n: Samples in all, at least `classes`.
        classes: Number of classes.
        ratio: Samples of the first class over those of the last.
    """
    shares = ratio ** -(np.arange(classes) / max(classes - 1, 1))
    exact = (n - classes) * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: n - classes - counts.sum()]] += 1
    return [int(count) + 1 for count in counts]
