"""SFR-on: ascent on the forget set in few weights, each step followed by some on the retain set."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from eigenforget.core.fields import Count, NonNegative, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchSize, GradientChunk, LearningRate
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.methods.ssd import squared_gradients
from eigenforget.training.gradients import Weights
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import (
    LossInputs,
    Momentum,
    Nesterov,
    Phase,
    Schedule,
    WeightDecay,
)
from eigenforget.training.recipe import supervised

_TINY = 1e-15
"""Added to both sides of a ratio, as the authors' code does."""


@configured
class SFRon(Method):
    """Alternate one step of ascent on the forget set with `retain_steps` on the retain set.

        forget   −α_t · Σ_i w_i ℓ_i / Σ_i w_i with the constants w_i = ℓ_i^−λ
        retain   mean ℓ_i

    ℓ is the cross-entropy. The weights w_i keep samples whose loss is already high from being
    driven further. In forget steps, the gradient is set to 0 except for weights with F_f / F_r ≥ γ,
    and then limited to the norm `clip`. F_f and F_r are the diagonals of the Fisher information of
    both sides, at the original. α_t falls from `alpha` along half a cosine over the forget steps.
    All steps share one momentum, so the other weights move too.

    estimator="sample" is the formula of F. "batch" is what the authors' code computes, means of
    squared gradients of batch means, and faster.
    """

    name: ClassVar = "sfr_on"
    source: ClassVar = (
        "Huang et al.: Unified Gradient-Based Machine Unlearning with Remain Geometry "
        "Enhancement, arXiv 2409.19732, algorithm 1 with its implicit Hessian approximation; the "
        "slow weights follow the fast ones at a rate of 1, as in the authors' settings; "
        "deviations: each forget step draws its samples anew, and so do the retain steps after it; "
        "momentum is Nesterov's by default"
    )
    needs: ClassVar = ("forget", "retain", "labels", "per-sample gradients")
    passes: ClassVar = (
        "trained: forget + retain (Fisher information) + forget_steps × (1 + retain_steps) × "
        "batch_size"
    )
    search_space: ClassVar = {"lr": Range(1e-4, 0.1), "alpha": Range(0.1, 100.0)}
    recipes: ClassVar = {
        "cifar10-resnet18-sfron": PublishedRun(
            dict(
                forget_steps=300,
                retain_steps=5,
                alpha=25.0,
                adaptive=0.5,
                threshold=1.0,
                estimator="batch",
                lr=0.01,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="cosine",
                batch_size=128,
                clip=7.0,
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "K1nght/Unified-Unlearning-w-Remain-Geometry, Classification/unlearn/sfron.py, 36bb7f6",
        ),
    }

    forget_steps: Annotated[Count, "forget steps in all"] = 60
    retain_steps: Annotated[Count, "retain steps after each forget step"] = 5
    alpha: Annotated[Positive, "weight of the ascent, at first"] = 1.0
    adaptive: Annotated[NonNegative, "λ: how fast a sample's weight falls with its loss"] = 0.5
    threshold: Annotated[NonNegative, "γ: least ratio F_f / F_r of the weights that ascend"] = 1.0
    estimator: Annotated[
        Literal["sample", "batch"], "gradients of single samples, or of batch means as published"
    ] = "sample"
    lr: LearningRate = 0.01
    momentum: Momentum = 0.9
    nesterov: Nesterov = True
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    clip: Annotated[NonNegative, "gradient-norm limit of the forget steps, 0 for none"] = 7.0
    batch_size: BatchSize = 128
    chunk: GradientChunk = None

    @property
    def log_rows(self) -> int:
        """Number of log rows: two per forget step."""
        return 2 * self.forget_steps

    def __call__(self, task: Task) -> nn.Module:
        retain, student = task.needs_retain(self.name), task.student()
        mask = self.mask(task, student)
        fall = _Fall(self.forget_steps)

        def ascent(part: LossInputs) -> Tensor:
            losses = cross_entropy(part.outputs.logits, part.batch.labels)
            return -self.alpha * fall.factor * adaptive_mean(losses, self.adaptive)

        def limit(model: nn.Module) -> None:
            own = [(mask[name], p) for name, p in model.named_parameters() if p.grad is not None]
            for chosen, parameter in own:
                parameter.grad.mul_(chosen)  # type: ignore[union-attr]
            if self.clip > 0:
                nn.utils.clip_grad_norm_([parameter for _, parameter in own], self.clip)

        steady = optimizer_of(self, clip=0.0)
        forget = Phase(
            "forget",
            (task.forget,),
            ascent,
            steady,
            self.batch_size,
            prepare=fall.begin,
            on_gradients=limit,
            steps_per_epoch=1,
        )
        recover = Phase(
            "recover",
            (retain,),
            supervised,
            steady,
            self.batch_size,
            steps_per_epoch=self.retain_steps,
            continues=True,
        )
        return task.fit(student, [forget, recover], epochs=self.forget_steps)

    def mask(self, task: Task, model: nn.Module) -> Weights:
        """1 where a weight ascends and 0 elsewhere, by the name of the weight."""
        of_forget, of_retain = (
            squared_gradients(task, self, model, source)
            for source in (task.forget, task.needs_retain(self.name))
        )
        return {
            name: ((value + _TINY) / (of_retain[name] + _TINY) >= self.threshold).to(value)
            for name, value in of_forget.items()
        }


def adaptive_mean(losses: Tensor, exponent: float) -> Tensor:
    """Σ w_i ℓ_i / Σ w_i of the losses [B], with the constants w_i = 1 / (ℓ_i^exponent + 1e-15)."""
    weights = 1 / (losses.detach().pow(exponent) + _TINY)
    return (weights / weights.sum() * losses).sum()


class _Fall:
    """The factor of the ascent in the present forget step."""

    def __init__(self, forget_steps: int) -> None:
        self._forget_steps = forget_steps
        self.factor = 1.0

    def begin(self, _: nn.Module, number: int) -> None:
        """Half a cosine from 1 to 0 over the forget steps."""
        self.factor = 0.5 * (1 + math.cos(math.pi * number / self._forget_steps))
