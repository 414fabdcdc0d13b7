"""ranked, by_memorisation, worst_case: samples chosen by a score of each that a file holds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from pydantic import Field

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Between01, Count
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates, how_many
from eigenforget.requests.scores import read_scores

ScorePath = Annotated[
    str, "CSV file with a header, or JSON lines (.jsonl), with an id and a score for each sample"
]
ScoreColumn = Annotated[str, "column of the file with the scores"]
Number = Annotated[Count, "number of samples"]


@configured
class RankedSamples:
    """Forget the samples with the highest or lowest scores.

    Equal scores go by id, so the order of the data does not matter.
    """

    name: ClassVar[str] = "ranked"
    personal: ClassVar[dict[str, str]] = {}
    path: ScorePath
    column: ScoreColumn = "score"
    fraction: Annotated[Between01 | None, "share of the training samples"] = None
    n: Annotated[Count | None, "number of samples, in place of fraction"] = None
    order: Annotated[Literal["highest", "lowest"], "which end of the scores is forgotten"] = (
        "highest"
    )
    duplicates: Duplicates = "error"

    @pydantic.model_validator(mode="after")
    def _one_size(self) -> RankedSamples:
        if (self.fraction is None) == (self.n is None):
            raise ValueError("give fraction or n, and not both")
        return self

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        scores = scores_of(index, path=self.path, column=self.column)
        count = how_many(fraction=self.fraction, n=self.n, rows=len(index), what=self.name)
        return smallest(scores if self.order == "lowest" else -scores, index.ids, count)


@configured
class ByMemorisation:
    """Forget the n samples that are memorised most, least, or nearest to `middle`.

    These are three strata of difficulty. Low memorisation is a negative control: a retrained model
    also knows these samples, so forgetting them should change nothing. memorisation_scores() and
    write_scores() make the file. Source: Zhao et al. (RUM), arXiv 2406.01257; `middle` as in its
    code.
    """

    name: ClassVar[str] = "by_memorisation"
    personal: ClassVar[dict[str, str]] = {}
    path: ScorePath
    level: Annotated[Literal["high", "medium", "low"], "which stratum is forgotten"] = "high"
    n: Number
    column: ScoreColumn = "score"
    middle: Annotated[
        float,
        Field(allow_inf_nan=False),
        "score that 'medium' is nearest to; 0.5 is for scores in [0, 1]",
    ] = 0.5
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        scores = scores_of(index, path=self.path, column=self.column)
        keys = {"high": -scores, "medium": np.abs(scores - self.middle), "low": scores}
        return smallest(
            keys[self.level],
            index.ids,
            how_many(fraction=None, n=self.n, rows=len(index), what=self.name),
        )


@configured
class WorstCase:
    """Forget the n samples with the highest scores of difficulty: what is hardest to forget.

    The idea is from Fan et al., arXiv 2403.07362, who search for the worst set of a method. This
    request does not search: `eigenforget scores --score worst_case` does, and writes the file.
    """

    name: ClassVar[str] = "worst_case"
    personal: ClassVar[dict[str, str]] = {}
    path: ScorePath
    n: Number
    column: ScoreColumn = "score"
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        scores = scores_of(index, path=self.path, column=self.column)
        return smallest(
            -scores, index.ids, how_many(fraction=None, n=self.n, rows=len(index), what=self.name)
        )


def scores_of(index: Index, *, path: str, column: str) -> np.ndarray:
    """Scores [N] in the order of the index.

    Raises:
        EigenforgetError: Ids have no score, scores are of unknown ids, or what read_scores refuses.
    """
    found = read_scores(path, column)
    names = [str(name) for name in index.ids]
    missing = [name for name in names if name not in found]
    if missing:
        raise EigenforgetError(f"{path} has no score for these training samples: {listed(missing)}")
    unknown = sorted(found.keys() - set(names))
    if unknown:
        raise EigenforgetError(
            f"{path} has scores of ids that are not in the training data: {listed(unknown)}"
        )
    return np.array([found[name] for name in names])


def smallest(keys: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest keys [N], ties by id, in the order of the data."""
    return np.sort(np.lexsort((ids, keys))[:count])
