"""What every metric of the panel is: a torchmetrics.Metric that is fed batch by batch and answers
with Scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torchmetrics
from torch import Tensor

from eigenforget.core.types import Batch, Outputs, Part, Score


class MetricContext(NamedTuple):
    """What a metric may need to know of the models and the request before it sees samples.

    k: directions of the headline alignment. seed: of metrics that draw, such as k-means. head:
    weight [C, D] of the classifier head, where the features are its input and None elsewhere.
    """

    num_features: int
    num_classes: int
    forgotten_classes: tuple[int, ...]
    k: int
    seed: int
    head: Tensor | None = None


class PanelMetric(torchmetrics.Metric, ABC):
    """One forward pass per model and part feeds all metrics: update(part, batch, outputs), then
    scores().

    The result must not depend on how the samples were shuffled, batched or sharded. What cannot be
    measured on the parts seen is a Score with value None and a reason, never a number. A subclass
    writes create(), update() and measure(); torchmetrics' own compute() answers with the
    applicable values by name, since it takes no frozen dataclasses. What reads features is measured
    again on each further layer that was asked for.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["logits", "features"]]

    full_state_update = False

    @classmethod
    @abstractmethod
    def create(cls, context: MetricContext) -> Self:
        """A fresh metric for this measurement."""

    @abstractmethod
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None: ...

    @abstractmethod
    def measure(self) -> tuple[Score, ...]:
        """The scores of the state as it stands on this rank."""

    def scores(self) -> tuple[Score, ...]:
        """The scores over all ranks."""
        with self.sync_context():
            return self.measure()

    def series(self) -> dict[str, Any]:
        """Series behind figures, by name, of the state as it stands; by default none."""
        return {}

    def compute(self) -> dict[str, float]:
        return {score.name: score.value for score in self.measure() if score.value is not None}
