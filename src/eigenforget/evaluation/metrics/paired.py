"""What every comparison of two models is: a torchmetrics.Metric fed with both models' outputs on
the same samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import torchmetrics
from torch import Tensor

from eigenforget.core.types import Better, Part, Trace
from eigenforget.evaluation.metrics.panel import MetricContext

Against = Literal["original", "oracle"]


class ComparisonKind(NamedTuple):
    """What a value of a comparison is; see types.Score. to_original: the trace of the comparison
    with the original, where it differs.
    """

    unit: str
    range: tuple[float, float]
    better: Better = "reference"
    trace: Trace = "both"
    to_original: Trace | None = None


class PairedMetric(torchmetrics.Metric, ABC):
    """Compares a model with another one: update(part, labels, mine, other) over the parts, then
    values().

    mine [B, ·] and other [B, ·] are rows of logits or of features (`reads`) of the two models on
    the same samples; the two models' features may differ in width unless the metric says otherwise.
    `against` says with which models it is compared; with several oracles the panel takes the mean
    over them, and an oracle is compared with the other oracles. A score's name is the stem, an
    underscore and `against`, as in jsd_forget_oracle. The result must not depend on how the samples
    were shuffled, batched or sharded. values() answers each stem of `kinds` with a number, or with
    the reason why there is none.
    """

    full_state_update = False
    name: ClassVar[str]
    reads: ClassVar[Literal["logits", "features"]]
    against: ClassVar[tuple[Against, ...]]
    kinds: ClassVar[Mapping[str, ComparisonKind]]

    @classmethod
    @abstractmethod
    def create(cls, context: MetricContext) -> Self:
        """A fresh metric for this measurement."""

    @abstractmethod
    def update(self, part: Part, labels: Tensor, mine: Tensor, other: Tensor) -> None: ...

    @abstractmethod
    def values(self) -> dict[str, float | str]:
        """Value or reason by stem, of the state as it stands on this rank."""

    def compute(self) -> dict[str, float]:
        return {stem: value for stem, value in self.values().items() if not isinstance(value, str)}
