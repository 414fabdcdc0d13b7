"""What every metric that compares two models is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from eigenforget.core.types import Better, Part, Trace
from eigenforget.evaluation.metrics.panel import ContextMetric

Against = Literal["original", "oracle"]


class ComparisonKind(NamedTuple):
    """What a value of a comparison is; see core.types.Score.

    Attributes:
        unit: Its unit.
        range: Its smallest and its largest value.
        better: Which values are wanted.
        trace: Where a trace of the forget set shows, beside the oracles' values.
        to_original: The same for the comparison with the original, where it differs.
    """

    unit: str
    range: tuple[float, float]
    better: Better = "reference"
    trace: Trace = "both"
    to_original: Trace | None = None


class PairedMetric(ContextMetric):
    """A torchmetrics.Metric that compares a model with another one on the same samples.

    The panel calls update(part, labels, mine, other) over the parts, then values(). The result must
    not depend on how the samples are shuffled, batched or sharded. With several oracles the panel
    takes the mean over them, and an oracle is compared with the other oracles. A score is named
    after the stem and the other model, as in jsd_forget_oracle.

    Attributes:
        name: Its name in specs and in `skip`.
        reads: Whether `mine` and `other` are logits or features, whose widths may differ.
        against: With which models it compares.
        kinds: What each value is, by stem.
        glossary: Label, group and meaning of each score, for reports.
        gathers: What the state is, where further metrics gather the same: with one context, the
            state of one is that of the others, so that a panel gathers it once. "" if none does.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["logits", "features"]]
    against: ClassVar[tuple[Against, ...]]
    kinds: ClassVar[Mapping[str, ComparisonKind]]
    gathers: ClassVar[str] = ""

    @abstractmethod
    def update(self, part: Part, labels: Tensor, mine: Tensor, other: Tensor) -> None:
        """Adds rows of a part.

        Args:
            part: The part.
            labels: [B].
            mine: Rows [B, ·] of the model.
            other: Rows [B, ·] of the other model.
        """

    @abstractmethod
    def values(self) -> dict[str, float | str]:
        """Value or reason by stem, of the state as it stands on this rank."""

    def compute(self) -> dict[str, float]:
        """The values by stem that there are."""
        return {stem: value for stem, value in self.values().items() if not isinstance(value, str)}
