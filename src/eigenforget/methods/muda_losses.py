"""The losses of MUDA's steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from eigenforget.core.errors import Refused
from eigenforget.core.types import Outputs
from eigenforget.data.sources import Source
from eigenforget.methods.alignment_basis import AlignmentBasis
from eigenforget.methods.base import Task
from eigenforget.methods.fitted_probe import FittedProbe
from eigenforget.methods.retained import feature_error
from eigenforget.methods.stand_in import margin, outputs_of
from eigenforget.methods.stand_in_answers import (
    PROBE_DECAY,
    PROBE_ROWS,
    StandInAnswers,
    confidence,
    sharpness,
)
from eigenforget.training.losses import (
    MaskedTarget,
    cross_entropy,
    kl_to_target,
    masked_true_class_target,
    soft_target,
)
from eigenforget.training.phases import LossInputs

Target = Callable[[Tensor, Tensor], Tensor]
"""(logits of the original [B, C], labels [B]) -> q [B, C]."""

_PROBE_EVERY = 5
"""Steps between two fits of the probe."""

_OF_STAND_IN = 1 / 3
"""Share of the stand-in's logits in the target. With a half, the target lay further from what
retrained models say of classes 3 and 5 of CIFAR-10 and of CIFAR-100, and no nearer elsewhere."""


class Side(NamedTuple):
    """Samples of one side, and the original's outputs on all of them in order."""

    source: Source
    outputs: Outputs

    def of(self, part: LossInputs) -> Outputs:
        """The original's outputs on a batch."""
        logits, features = self.outputs.logits, self.outputs.features
        rows = part.batch.positions.to(features.device)
        return Outputs(logits[rows], features[rows])

    @property
    def labels(self) -> Tensor:
        """[N], where the outputs are."""
        return torch.as_tensor(self.source.labels()).to(self.outputs.features.device)


class KnownSides(NamedTuple):
    """Both sides of joint steps."""

    forget: Side
    retained: Side

    @classmethod
    def of(cls, task: Task, retain: Source) -> KnownSides:
        """Both sides of a task, with the outputs of its original."""
        original = task.teacher()
        forget, kept = (
            Side(source, outputs_of(task, original, source)) for source in (task.forget, retain)
        )
        return cls(forget, kept)


class ForgetLoss:
    """w_da · L_DA + w_sd · KL(q ‖ p) of a forget batch."""

    def __init__(self, method: Any, task: Task, basis: AlignmentBasis | None) -> None:
        self._method, self.target = method, self_distillation_target(method, task)
        self._basis = basis if method.w_da > 0 else None

    def __call__(self, part: LossInputs) -> Tensor:
        """Values per sample [B]."""
        return self.towards(self.target(part.teachers[0].logits, part.batch.labels), part)

    def towards(self, q: Tensor, part: LossInputs) -> Tensor:
        """The same for a target [B, C] that is known."""
        loss: Tensor = self._method.w_sd * kl_to_target(q, part.outputs.logits)
        if self._basis is not None:
            loss = loss + self._method.w_da * self._basis.loss(part.outputs.features)
        return loss


class RecoverLoss:
    """The loss of a retain batch: its labels, and the original's logits and features of it."""

    def __init__(self, method: Any, task: Task) -> None:
        gone = torch.tensor(task.forgotten_classes, dtype=torch.long)
        self._method = method
        self._target = MaskedTarget(gone) if len(gone) else lambda logits: soft_target(logits, 1.0)

    def __call__(self, part: LossInputs) -> Tensor:
        """Values per sample [B]; the original is the teacher, if there is one."""
        return self.beside(part, part.teachers[0] if part.teachers else None)

    def beside(self, part: LossInputs, before: Outputs | None) -> Tensor:
        """The same with the original's outputs; None where neither is distilled."""
        m, logits = self._method, part.outputs.logits
        loss: Tensor = m.w_labels * cross_entropy(logits, part.batch.labels)
        if before is None:
            return loss
        if m.w_logits > 0:
            loss = loss + m.w_logits * kl_to_target(self._target(before.logits), logits)
        if m.w_features > 0:
            loss = loss + m.w_features * feature_error(part.outputs.features, before.features)
        return loss


class JointLoss:
    """The loss of a joint step, with the probe that it fits on the way."""

    def __init__(
        self,
        method: Any,
        task: Task,
        basis: AlignmentBasis | None,
        known: KnownSides,
        batch_size: int,
        answers: StandInAnswers | None,
    ) -> None:
        self._method, self._retained = method, known.retained
        self._forget, self._recover = ForgetLoss(method, task, basis), RecoverLoss(method, task)
        gone = taken_now(task)
        self._probes = method.w_probe > 0 and len(gone) > 0
        self._answers = answers
        self._targets = self._targets_of(known.forget, known.retained)
        self._probe = FittedProbe(
            task.num_classes,
            batches=math.ceil(PROBE_ROWS / batch_size),
            decay=PROBE_DECAY,
            every=_PROBE_EVERY,
        )
        if self._probes:
            self._remember(known, batch_size)

    def _remember(self, known: KnownSides, batch_size: int) -> None:
        """Fill the probe's memory with features of the original."""
        for side in known:
            rows = min(PROBE_ROWS // 2, len(side.labels))
            for first in range(0, rows, batch_size):
                part = slice(first, min(first + batch_size, rows))
                self._probe.remember(side.outputs.features[part], side.labels[part])

    def _targets_of(self, asked: Side, held: Side) -> Tensor:
        """Targets [N, C] of the forget samples.

        With a stand-in they are made of its logits and the original's, and are as sure of the
        forget set, beside retained samples, as the stand-in, unless they are to be the original's.
        """
        answers, target, logits = self._answers, self._forget.target, asked.outputs.logits
        if answers is None or self._method.target in ("self", "self_soft"):
            return target(logits, asked.labels)
        mixed = torch.lerp(logits, answers.logits, _OF_STAND_IN)

        def at(factor: float) -> Tensor:
            return target(mixed * factor, asked.labels)

        goal = answers.ratio * confidence(target(held.outputs.logits, held.labels))
        return at(sharpness(lambda factor: confidence(at(factor)), goal))

    def __call__(self, forget: LossInputs, retained: LossInputs) -> Tensor:
        """A scalar."""
        method, labels = self._method, forget.batch.labels
        q = self._targets[forget.batch.positions.to(self._targets.device)]
        loss = self._forget.towards(q, forget)
        if self._probes:
            found = margin(self._probe.step(forget, retained), labels)
            sure = torch.zeros_like(found)
            if self._answers is not None:
                now = found.detach().sigmoid()
                sure = torch.minimum(self._answers.probed.to(now)[labels], now)
            left = binary_cross_entropy_with_logits(found, sure, reduction="none")
            loss = loss + method.w_probe * left
        before = self._retained.of(retained)
        return loss.mean() + self._recover.beside(retained, before).mean()


def self_distillation_target(method: Any, task: Task) -> Target:
    """(logits of the original, labels) -> q.

    Classes that earlier requests took have no place in q, which would bring them back.
    """
    kind = method.target
    now = taken_now(task)
    earlier = torch.tensor([c for c in task.forgotten_classes if c not in now], dtype=torch.long)
    if kind == "auto":
        kind = "masked" if now else "self_soft"
    if kind == "masked_label":
        return lambda logits, labels: masked_true_class_target(
            logits.index_fill(1, earlier.to(logits.device), -math.inf), labels
        )
    if kind == "masked":
        if not task.forgotten_classes:
            raise Refused(
                'muda(target="masked") needs a class that is forgotten as a whole; use '
                'target="self_soft", or "masked_label"'
            )
        masked = MaskedTarget(torch.tensor(task.forgotten_classes))
        return lambda logits, _: masked(logits)
    scale = 1.0 if kind == "self" else method.temperature
    if len(earlier):
        without = MaskedTarget(earlier)
        return lambda logits, _: without(logits / scale)
    return lambda logits, _: soft_target(logits, scale)


def taken_now(task: Task) -> set[int]:
    """The classes that this request takes as a whole, without those of earlier ones."""
    return set(task.forgotten_classes) & set(task.forget.labels().tolist())
