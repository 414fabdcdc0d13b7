"""Accuracy on each part, and the checks and the interval that other share-like scores use too."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from eigenforget.core.bands import Z95
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Better, Outputs, Part, Score, Trace
from eigenforget.evaluation.metrics.panel import PanelMetric, no_samples

PARTS: tuple[Part, ...] = ("forget", "retain", "test_forget", "test_retain")


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Accuracies(PanelMetric):
    """Accuracy on each part: `forget_accuracy`, `retain_accuracy`, `test_…_accuracy`.

    The share of samples whose largest logit is the true class; of equal logits the first counts.
    Forget parts are compared with the retrained models, whose accuracy may well be far from
    zero; on the retained parts higher is better. Intervals are Wilson's.

    Not applicable: the part was not seen.

    Raises:
        EigenforgetError: A logit is NaN, or a label has no logit.
    """

    name: ClassVar[str] = "accuracies"
    reads: ClassVar[Literal["logits", "features"]] = "logits"
    correct: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        none = torch.zeros(len(PARTS), dtype=torch.int64)
        self.add_sums(correct=none, seen=none.clone())

    @override
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        if part not in PARTS:
            return
        logits, labels = checked(part, batch, outputs)
        row = PARTS.index(part)
        self.correct[row] += (logits.argmax(dim=1) == labels).sum()
        self.seen[row] += len(labels)

    @override
    def measure(self) -> tuple[Score, ...]:
        counts = zip(PARTS, self.correct.tolist(), self.seen.tolist(), strict=True)
        return tuple(_score(part, correct=correct, seen=seen) for part, correct, seen in counts)


def _score(part: Part, *, correct: int, seen: int) -> Score:
    better: Better = "reference" if part in ("forget", "test_forget") else "higher"
    if seen == 0:
        return missing_share(f"{part}_accuracy", reason=no_samples(part), better=better)
    return share(f"{part}_accuracy", correct=correct, seen=seen, better=better)


def share(name: str, *, correct: int, seen: int, better: Better) -> Score:
    """The share correct / seen as a Score with its Wilson interval.

    With better="reference" it is a share of forgotten samples, and a trace of them shows above the
    retrained models. With "higher" it is utility.

    Args:
        name: Name of the score.
        correct: Samples that count.
        seen: All samples; at least 1.
        better: Which values are wanted.
    """
    return share_score(
        name, correct / seen, wilson_interval(successes=correct, trials=seen), better
    )


def share_score(
    name: str, value: float, interval: Interval | None = None, better: Better = "reference"
) -> Score:
    """A share as a Score; see `share` for `better`."""
    low, high = (None, None) if interval is None else interval
    return Score(name, value, "share", better, (0.0, 1.0), low=low, high=high, trace=_trace(better))


def missing_share(name: str, *, reason: str, better: Better = "reference") -> Score:
    """A share that could not be measured."""
    return Score(name, None, "share", better, (0.0, 1.0), reason=reason, trace=_trace(better))


def _trace(better: Better) -> Trace:
    return "above" if better == "reference" else ""


def wilson_interval(*, successes: float, trials: float) -> Interval:
    """The 95 % score interval of a share (Wilson 1927), inside [0, 1] and around the share.

    Raises:
        EigenforgetError: There is no trial, or the share is outside [0, 1].
    """
    if not (trials >= 1 and 0 <= successes <= trials):
        raise EigenforgetError(
            f"a share needs 0 <= successes <= trials and trials >= 1, got {successes} of {trials}"
        )
    p = successes / trials
    weight = Z95**2 / trials
    centre = (p + weight / 2) / (1 + weight)
    half = math.sqrt(weight * p * (1 - p) + weight**2 / 4) / (1 + weight)
    return Interval(low=min(max(centre - half, 0.0), p), high=max(min(centre + half, 1.0), p))


def interval_of_share(
    value: float, *, error: float, trials: float, most: float | None = None
) -> Interval:
    """Wilson's interval of a share in [0, 1] with this standard error.

    It is that of as many trials as a plain share with this error would have. So it stays in the
    range, and has a width at 0 and 1, where an estimated error is 0.

    Args:
        value: The share.
        error: Its standard error.
        trials: The trials where the error is 0.
        most: No more trials than these.
    """
    plain = value * (1 - value)
    worth = plain / error**2 if plain > 0 and error > 0 else trials if plain == 0 else most
    worth = max(min(worth or trials, most or math.inf), 1.0)
    low, high = wilson_interval(successes=min(value * worth, worth), trials=worth)
    return Interval(min(low, value), max(high, value))


def interval_around(value: float, *, half: float) -> Interval:
    """The value ± half, cut to [0, 1]."""
    return Interval(max(value - half, 0.0), min(value + half, 1.0))


def checked(part: Part, batch: Batch, outputs: Outputs) -> tuple[Tensor, Tensor]:
    """The detached logits [B, C] and labels [B] of a batch.

    Raises:
        EigenforgetError: They do not fit, or a logit is NaN.
    """
    logits, labels = outputs.logits.detach(), batch.labels.to(outputs.logits.device)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise EigenforgetError(
            f"part {part}: logits must be [B, C] and labels [B], got {list(logits.shape)} and "
            f"{list(labels.shape)}"
        )
    wrong = labels[(labels < 0) | (labels >= logits.shape[1])]
    if wrong.numel():
        allowed = f"0 … {logits.shape[1] - 1}"
        raise EigenforgetError(
            f"part {part}: label {int(wrong[0])} has no logit; labels must be {allowed}"
        )
    if bool(logits.isnan().any()):
        raise EigenforgetError(f"part {part}: the model's logits are NaN; scores need numbers")
    return logits, labels
