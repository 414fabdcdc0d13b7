"""What every metric of one model is, and what it may know."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torchmetrics
from torch import Tensor

from eigenforget.core.types import Batch, Outputs, Part, Score

MIN_SAMPLES = 10
"""Below this many samples a mean says little, and an interval made for many samples nothing. Only a
share has an honest one for fewer, Wilson's."""


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    # A sum takes a tenth of the time. It may also overflow, and then each value is looked at.
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


_SAMPLES: Mapping[str, str] = {
    "forget": "samples of the forget set",
    "retain": "samples of the retain set",
    "test_forget": "test samples of forgotten classes",
    "test_retain": "test samples of retained classes",
    "test_trigger": "test samples with the trigger",
}


def samples_of(part: str) -> str:
    """The samples of a part in the words of a reader: "samples of the forget set"."""
    return _SAMPLES.get(part, f"samples of {part}")


def no_samples(part: str) -> str:
    """Why there is no score where a part has no sample."""
    if part == "test_forget":
        return "no class is forgotten as a whole, or none that has test samples"
    return f"there are no {samples_of(part)}"


def too_few(least: int = MIN_SAMPLES, /, **counts: int) -> str:
    """Why there is no score where a part has too few samples; "" where all have enough.

    Args:
        least: The number that each part needs.
        counts: The samples of each part that the score needs, by the part's name.
    """
    few = {part: count for part, count in counts.items() if count < least}
    return "; ".join(
        f"needs {least} {samples_of(part)}, got {count}" if count else no_samples(part)
        for part, count in few.items()
    )


def too_few_of_class(counts: Mapping[int, int], what: str) -> str:
    """Why there is no score where a class has fewer than MIN_SAMPLES samples; "" where all have.

    Args:
        counts: The samples of each class that the score needs.
        what: The kind of samples, such as "training".
    """
    few = {label: count for label, count in counts.items() if count < MIN_SAMPLES}
    if not few:
        return ""
    label = min(few, key=few.__getitem__)
    return f"needs {MIN_SAMPLES} {what} samples of class {label}, got {few[label]}"


class MetricContext(NamedTuple):
    """What a metric may know of the models and the request before it sees samples.

    Attributes:
        num_features: Width of the features.
        num_classes: Labels are below this number.
        forgotten_classes: Classes that are gone as a whole.
        k: Directions of the headline alignment.
        seed: For metrics that draw, such as k-means.
        head: Weight [C, D] of the classifier head where the features are its input, else None.
    """

    num_features: int
    num_classes: int
    forgotten_classes: tuple[int, ...]
    k: int
    seed: int
    head: Tensor | None = None


class ContextMetric(torchmetrics.Metric, ABC):
    """A torchmetrics.Metric that is made for a context."""

    full_state_update = False

    @classmethod
    def create(cls, context: MetricContext) -> Self:
        """A fresh metric for this measurement.

        Where a parameter of its constructor has the name of an attribute of the context, that is
        its value.
        """
        return cls(**{name: getattr(context, name) for name in _wanted(cls)})

    def uses(self, part: Part) -> bool:  # noqa: ARG002
        """Whether samples of the part can change an answer; by default those of every part can.

        Where no ranks are joined, those of other parts need not be given.
        """
        return True

    def add_rows(self, *states: str) -> None:
        """Adds states that collect tensors of rows; ranks join theirs."""
        for state in states:
            self.add_state(state, [], dist_reduce_fx="cat")

    def add_sums(self, **states: Tensor) -> None:
        """Adds states that start as these zeros and are summed over ranks."""
        for state, zeros in states.items():
            self.add_state(state, zeros, dist_reduce_fx="sum")


@cache
def _wanted(kind: type[ContextMetric]) -> tuple[str, ...]:
    """What of a context the constructor takes; looked up once, as it takes long."""
    known = inspect.signature(kind).parameters
    return tuple(name for name in MetricContext._fields if name in known)


class PanelMetric(ContextMetric):
    """A torchmetrics.Metric that is fed with the outputs of one model and answers with Scores.

    One forward pass per model and part feeds all metrics: update(part, batch, outputs), then
    measure(). The result must not depend on how the samples are shuffled, batched or sharded. What
    cannot be measured on the parts seen is a Score with value None and a reason, never a number. A
    metric that reads features is measured again on each further layer.

    Attributes:
        name: Its name in specs and in `skip`.
        reads: Whether it reads logits or features.
        glossary: Label, group and meaning of each score, for reports.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["logits", "features"]]

    @abstractmethod
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        """Adds the outputs of a batch of a part."""

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
        """The applicable values by name."""
        return {score.name: score.value for score in self.measure() if score.value is not None}
