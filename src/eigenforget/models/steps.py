"""Features of models that answer at each step of a sequence, or have the samples on another axis.

A decoder that classifies texts applies its head to all tokens and takes the answer at the last one;
others average the answers. The features of a sample are then those from which its logits are
computed: of that token, or the average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eigenforget.core.errors import EigenforgetError

_ROUNDING = 16.0
"""Averages agree to within this many units of rounding; a sum in another order moves a few."""


@dataclass(frozen=True)
class StepForm:
    """How the features of samples are read from what a layer gives or a head takes.

    Attributes:
        axis: The axis of the samples: 0, or 1 where steps come first, [T, B, D].
        taken: The step whose answer is the logits, the mean over steps, or all of them.
    """

    axis: int = 0
    taken: Literal["one", "mean", "all"] = "all"

    def rows(self, features: Tensor, answers: Tensor | None, logits: Tensor) -> Tensor:
        """The features of each sample: [B, D], or with all steps [B, T, D].

        Args:
            features: What the head takes, or a layer gives.
            answers: What the head gives for it, where these are features of a head.
            logits: The logits [B, C].
        """
        if self.taken == "all" or answers is None:
            return features.movedim(self.axis, 0) if self.axis else features
        count = len(logits)
        steps = _by_sample(features, self.axis, count)
        if self.taken == "mean":
            return steps.mean(1)
        place = _same(_by_sample(answers, self.axis, count), logits).int().argmax(1)
        return steps[torch.arange(len(steps), device=steps.device), place]


def head_form(features: Tensor, answers: Tensor, logits: Tensor) -> StepForm:
    """How the logits [B, C] come from the answers of the head, and so from its features."""
    count = len(logits)
    for axis in (0, 1) if features.ndim < 4 else (0,):
        fits = features.ndim > 2 and features.shape[axis] == count
        several = features.ndim == 2 and len(features) % count == 0  # rows for each sample
        if not (fits or several) or answers.shape[-1] != logits.shape[1]:
            continue
        steps = _by_sample(answers, axis, count)
        if _same(steps, logits).any(1).all():
            return StepForm(axis, "one")
        rounding = max(torch.finfo(tensor.dtype).eps for tensor in (answers, logits))
        unit = rounding * steps.abs().max().clamp(min=1e-30)
        if (steps.mean(1) - logits).abs().max() <= _ROUNDING * unit:
            return StepForm(axis, "mean")
    return StepForm(samples_axis(features, count))


def samples_axis(features: Tensor, count: int) -> int:
    """The axis of `count` samples in features [B, …] or [T, B, D].

    Raises:
        EigenforgetError: There is none.
    """
    if len(features) == count:
        return 0
    if features.ndim == 3 and features.shape[1] == count:
        return 1
    raise EigenforgetError(
        f"the features of {count} samples are {list(features.shape)}, where [B, D] or [T, B, D] is "
        "expected; name another layer: layer=… (--layer)"
    )


def _by_sample(steps: Tensor, axis: int, count: int) -> Tensor:
    """[B, T, D] with all steps of a sample on one axis; of [B · T, D] or [T · B, D] too."""
    if steps.ndim == 2:
        shape = (-1, count) if axis else (count, -1)
        steps = steps.unflatten(0, shape)  # type: ignore[no-untyped-call]
    return steps.movedim(axis, 0).flatten(1, -2)


def _same(answers: Tensor, logits: Tensor) -> Tensor:
    """Whether the answer [B, T, C] of each step is the logits [B, C]: [B, T]."""
    return (answers == logits[:, None]).all(2)
