"""What a model that never saw the forgotten classes would answer about them, from a stand-in."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eigenforget.core import notices
from eigenforget.core.errors import Refused
from eigenforget.methods.base import Task
from eigenforget.methods.fitted_probe import FittedProbe
from eigenforget.methods.stand_in import StandIn, outputs_of
from eigenforget.training.losses import MaskedTarget
from eigenforget.training.phases import Optimizer

PROBE_ROWS, PROBE_DECAY = 2048, 1e-3
"""Features that a probe is fitted on, and its L2 penalty. A probe on few features is noise: with
256 of them the prototypes of a digit fell by 0.8 and 0.9 standard errors more."""

_STAND_IN_BATCH, _STAND_IN_CLIP = 32, 5.0
"""Its batch size, and its gradient-norm limit, that of `UnseenDistill`: a model without batch norm
needs one. In batches of 128 a few hundred samples make too few steps: after 8 of them a stand-in
on CIFAR-10 was as sure of the forgotten class as of all others."""

_SHARPEST = 16.0
"""Largest factor on the logits in the target."""


class StandInAnswers(NamedTuple):
    """How a model that never saw the forgotten classes answers about them.

    Attributes:
        logits: Its logits on the forget set [N, C].
        probed: How sure a probe of its features may be of each class [C].
        ratio: Its mean confidence on the forget set, over that on retain samples.
    """

    logits: Tensor
    probed: Tensor
    ratio: float


def confidence(probabilities: Tensor) -> float:
    """Mean of the largest probability of each row of [N, C]."""
    return float(probabilities.amax(1).mean())


def sharpness(confidence_at: Callable[[float], float], goal: float) -> float:
    """The factor on logits, from 1 to 16, at which the mean confidence is nearest to the goal.

    Args:
        confidence_at: The mean confidence at a factor; it does not fall.
        goal: The mean confidence that is wanted.
    """
    low, high = 1.0, _SHARPEST
    if confidence_at(low) >= goal:
        return low
    for _ in range(20):  # halves 15 to 1.5e-5
        middle = (low + high) / 2
        low, high = (middle, high) if confidence_at(middle) < goal else (low, middle)
    return high


def stand_in_answers(
    method: Any, task: Task, samples: int, layers: Container[str] | None = None
) -> StandInAnswers | None:
    """What a stand-in says of the forgotten classes.

    It is the original with these layers, or all, reinitialised and trained on that many retain
    samples, or on all if there are fewer. Probes are fitted on every other row of its features, and
    asked about the others. None where there is nothing to draw.
    """
    retain = task.needs_retain(method.name)
    optimizer = Optimizer(schedule="onecycle", clip=_STAND_IN_CLIP)
    steps = math.ceil(samples / _STAND_IN_BATCH) * (1 if layers is None else 2)
    made = StandIn(method.name, 1.0, method.stand_in_epochs, _STAND_IN_BATCH, optimizer, steps)
    sample = task.sample(retain, samples, "stand-in")
    try:
        stand_in = made.train(task, sample, layers)
    except Refused as error:
        notices.warn(f"{error}; without a stand-in, muda removes all that its probe finds")
        return None
    rows = [task.sample(of, PROBE_ROWS // 2, "stand-in's probe") for of in (task.forget, retain)]
    outputs = [outputs_of(task, stand_in, of) for of in rows]
    features = [of.features for of in outputs]
    masked = MaskedTarget(torch.tensor(task.forgotten_classes))
    forget, retained = (confidence(masked(of.logits)) for of in outputs)
    labels = [torch.as_tensor(of.labels()).to(features[0].device) for of in rows]
    total, seen = (features[0].new_zeros(task.num_classes) for _ in range(2))
    for half in (0, 1):
        probe = FittedProbe(task.num_classes, batches=len(rows), decay=PROBE_DECAY)
        for part, own in zip(features, labels, strict=True):
            probe.remember(part[half::2], own[half::2])
        probe.fit()
        asked, own = features[0][1 - half :: 2], labels[0][1 - half :: 2]
        sure = probe(asked).softmax(1).gather(1, own.unsqueeze(1)).squeeze(1)
        total, seen = total.index_add(0, own, sure), seen.index_add(0, own, torch.ones_like(sure))
    logits = outputs_of(task, stand_in, task.forget).logits
    return StandInAnswers(logits, total / seen.clamp_min(1), forget / retained)
