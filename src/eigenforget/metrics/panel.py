"""What every metric of the panel is: a torchmetrics.Metric that is fed batch by batch and answers with Scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torchmetrics

from eigenforget.types import Batch, Outputs, Part, Score


class PanelMetric(torchmetrics.Metric, ABC):
    """One forward pass per model and part feeds all metrics: update(part, batch, outputs), then compute() -> Scores.

    The result must not depend on how the samples were shuffled, batched or sharded. What cannot be measured on the parts
    seen is a Score with value None and a reason, never a number.
    """

    full_state_update: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    @abstractmethod
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None: ...

    @abstractmethod
    def compute(self) -> tuple[Score, ...]: ...
