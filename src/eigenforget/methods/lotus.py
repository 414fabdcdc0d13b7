"""LoTUS: smooth the original's predictions on the forget set, the more the better they are."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, NonNegative, Positive, UnitInterval, UpTo1
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.fields import BatchSize
from eigenforget.methods.published import (
    CIFAR10,
    CIFAR100,
    RESNET18,
    VIT,
    PublishedData,
    PublishedRun,
)
from eigenforget.training.losses import kl_to_target
from eigenforget.training.phases import LossInputs, Optimizer, Phase


@configured
class LoTUS(Method):
    """Distil the frozen original t over forget samples and a sample of the retain set, mixed.

    With Gumbel noise g, the target of a forget sample is softmax((t + g) / τ). The target of a
    retain sample is the one-hot vector of argmax(t + g), a draw from softmax(t). τ = exp(alpha ·
    (Acc_f − target)), with Acc_f the student's accuracy on the forget set before each epoch.
    Training ends once Acc_f ≤ target − 0.01. On average the most likely class of a target is that
    of the original. So predictions lose confidence, but accuracy need not fall to its target.
    """

    name: ClassVar = "lotus"
    source: ClassVar = (
        "Spartalis et al.: LoTUS, CVPR 2025 (target, temperature and stopping rule as in its "
        "public code; the target accuracy is the original's on unseen samples, or a field); one "
        "retain sample for all epochs, as there; deviation: the loss leaves out the target's own "
        "entropy, a constant"
    )
    needs: ClassVar = (
        "forget",
        "retain",
        "labels",
        "whole classes forgotten, unseen samples or target_accuracy",
    )
    passes: ClassVar = (
        "trained: epochs × (forget + retain_share × retain); forward: that + epochs × forget + "
        "unseen"
    )
    search_space: ClassVar = {"lr": Range(1e-4, 0.005), "alpha": Range(0.5, 8.0)}
    recipes: ClassVar = {
        "cifar10-resnet18-lotus": PublishedRun(
            dict(
                epochs=10,
                lr=1e-4,
                weight_decay=5e-4,
                alpha=8.0,
                retain_share=0.3,
                batch_size=128,
            ),
            RESNET18,
            CIFAR10,
            "random samples",
            "cspartalis/LoTUS, src/bash_scripts/reproduce_results.sh, 35ae25e",
            "the unseen samples are those of the validation set",
        ),
        "cifar10-resnet18-lotus-class": PublishedRun(
            dict(
                epochs=10,
                lr=1e-4,
                weight_decay=5e-4,
                alpha=32.0,
                retain_share=0.3,
                batch_size=128,
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "cspartalis/LoTUS, src/bash_scripts/class_reproduce_results.sh, 35ae25e",
        ),
        "cifar100-resnet18-lotus": PublishedRun(
            dict(
                epochs=10,
                lr=1e-4,
                weight_decay=5e-4,
                alpha=2.0,
                retain_share=0.3,
                batch_size=128,
            ),
            RESNET18,
            CIFAR100,
            "random samples",
            "cspartalis/LoTUS, src/bash_scripts/reproduce_results.sh, 35ae25e",
            "the unseen samples are those of the validation set",
        ),
        "cifar10-vit-lotus": PublishedRun(
            dict(
                epochs=3,
                lr=1e-6,
                weight_decay=5e-4,
                alpha=2.0,
                retain_share=0.3,
                batch_size=32,
            ),
            VIT,
            PublishedData("CIFAR-10", 10, (3, 224, 224)),
            "random samples",
            "cspartalis/LoTUS, src/bash_scripts/reproduce_results.sh, 35ae25e",
            "the unseen samples are those of the validation set",
        ),
    }

    epochs: Annotated[Count, "passes over forget set and retain sample, at most"] = 10
    lr: Annotated[Positive, "AdamW learning rate"] = 1e-3
    weight_decay: Annotated[NonNegative, "decoupled weight decay"] = 5e-4
    alpha: Annotated[NonNegative, "how fast the temperature grows with the accuracy gap"] = 2.0
    target_accuracy: Annotated[
        UnitInterval | None,
        "the original's accuracy on samples it never saw, in [0, 1]; None is 0 where whole "
        "classes are forgotten, and elsewhere measured on unseen samples: accuracy on retained "
        "data would be too high",
    ] = None
    retain_share: Annotated[UpTo1, "share of the retain set that is used"] = 0.3
    batch_size: BatchSize = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        heat = _Heat(self, task, self.goal(task))
        count = max(1, math.floor(self.retain_share * len(retain)))
        mixed = JoinedSource((task.forget, task.sample(retain, count, self.name)))
        noise = seeds.generator(task.seed, "gumbel")

        def loss(part: LossInputs) -> Tensor:
            logits = part.teachers[0].logits
            gumbel = -torch.empty(logits.shape).exponential_(generator=noise).log()
            forget = part.batch.positions < len(task.forget)
            target = smoothed_target(
                logits,
                gumbel.to(logits),
                forget=forget.to(logits.device),
                temperature=heat.temperature,
            )
            return kl_to_target(target, part.outputs.logits)

        optimizer = Optimizer(kind="adamw", lr=self.lr, weight_decay=self.weight_decay)
        phase = Phase(
            "lotus",
            (mixed,),
            loss,
            optimizer,
            self.batch_size,
            teachers=(task.teacher(),),
            prepare=heat.refresh,
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)

    def goal(self, task: Task) -> float:
        """The accuracy that the forget set should have."""
        if self.target_accuracy is not None:
            return self.target_accuracy
        if task.forgotten_classes:
            return 0.0
        if task.unseen is None:
            raise Refused(
                "lotus needs unseen samples, or target_accuracy (of the original on samples it "
                "never saw), unless whole classes are forgotten"
            )
        return float(task.correct(task.teacher(), task.unseen).mean())


def smoothed_target(
    logits: Tensor, gumbel: Tensor, *, forget: Tensor, temperature: float
) -> Tensor:
    """Target probabilities [B, C]: soft at the temperature for forget samples, one-hot for others.

    Args:
        logits: Of the original [B, C].
        gumbel: Noise [B, C].
        forget: Whether a sample belongs to the forget set [B].
        temperature: Softens the targets of the forget set.
    """
    noisy = logits + gumbel
    hard = torch.zeros_like(noisy).scatter(1, noisy.argmax(1, keepdim=True), 1.0)
    return torch.where(forget.unsqueeze(1), (noisy / temperature).softmax(1), hard)


class _Heat:
    """The temperature of the present epoch."""

    def __init__(self, method: LoTUS, task: Task, goal: float) -> None:
        self._method, self._task, self._goal = method, task, goal
        self.temperature = 1.0

    def refresh(self, model: nn.Module, epoch: int) -> bool:  # noqa: ARG002 (prepare is given it)
        """Set the temperature; False once the target accuracy is reached."""
        gap = float(self._task.correct(model, self._task.forget).mean()) - self._goal
        self.temperature = math.exp(self._method.alpha * gap)
        return gap > -0.01
