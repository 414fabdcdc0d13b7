"""Probed MUDA: self-distillation through linear probes fitted on the way, beside retained features
and logits held in place.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.methods.fitted_probe import FittedProbe
from eigenforget.models.heads import linear_head
from eigenforget.training.losses import cross_entropy, kl_to_target, masked_target
from eigenforget.training.phases import (
    LossInputs,
    Momentum,
    Optimizer,
    Phase,
    Schedule,
    WeightDecay,
)


@configured
class ProbedMUDA:
    """Forget whole classes in the features: no linear probe that is fitted while training runs may
    find them.

    Every step takes a forget and a retain batch. With q = softmax of the frozen original's logits
    without the forgotten classes,
        forget   w_sd · KL(q ‖ p_θ) + w_probe · KL(q ‖ softmax(A f_θ + a))
        retain   w_labels · CE + w_logits · KL(q ‖ p_θ) + w_features · ‖f_θ − f_0‖² / Var f_0
    f_θ are the features, f_0 the original's, Var the trace of their covariance over the batch. (A,
    a) is the multinomial logistic regression with true labels, forgotten classes included, on the
    standardised features of the last `memory` steps; it is fitted anew every `probe_every` steps
    and constant in between. At last the head's rows of the forgotten classes are drawn anew: the
    mean row and bias of the retained classes, `margin` lower. What the old rows held is then gone,
    not only hidden, and no forgotten class is predicted.
    """

    name: ClassVar[str] = "probed_muda"
    source: ClassVar[str] = (
        "our successor of MUDA (Seo, Kim, Han, arXiv 2407.17710): its self-distillation also goes through fitted probes, in the place of "
        "L_DA; joint steps in the place of alternation; retained outputs are distilled from the original, beside their labels"
    )
    needs: ClassVar[tuple[str, ...]] = (
        "whole classes forgotten",
        "retain",
        "labels",
        "a linear head with bias, or redraw_head=False",
    )
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: rounds × steps × 2 batches; forward: as much again"

    rounds: Annotated[
        int,
        Field(
            ge=1,
            description="rounds of steps; each begins a fresh random order and gives a row of the trace",
        ),
    ] = 3
    steps: Annotated[int, Field(ge=1, description="steps of one round")] = 30
    w_sd: Annotated[
        float,
        Field(ge=0, description="weight of the self-distillation of the forget data, in nats"),
    ] = 1.0
    w_probe: Annotated[
        float, Field(ge=0, description="weight of the self-distillation through the probe, in nats")
    ] = 0.6
    w_labels: Annotated[
        float, Field(ge=0, description="weight of the retained labels' cross-entropy, in nats")
    ] = 3.0
    w_logits: Annotated[
        float, Field(ge=0, description="weight of the retained logits' distillation, in nats")
    ] = 10.0
    w_features: Annotated[
        float,
        Field(
            ge=0, description="weight of the retained features' squared error over their variance"
        ),
    ] = 20.0
    probe_every: Annotated[int, Field(ge=1, description="steps between two fits of the probe")] = 5
    memory: Annotated[
        int, Field(ge=1, description="steps whose features the probe is fitted on")
    ] = 8
    probe_decay: Annotated[
        float, Field(gt=0, description="L2 penalty of the probe's weights on its mean loss")
    ] = 1e-3
    redraw_head: Annotated[
        bool, Field(description="draw the head's rows of the forgotten classes anew at the end")
    ] = True
    margin: Annotated[
        float,
        Field(ge=0, description="how far a redrawn bias lies below the mean of the retained ones"),
    ] = 5.0
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.05
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    clip: Annotated[float, Field(ge=0, description="gradient-norm limit, 0 for none")] = 1.0
    batch_size: Annotated[int, Field(ge=2, description="samples of either side per step")] = 128
    norm: Annotated[
        Literal["train", "frozen"],
        Field(description="batch-norm statistics: updated, or kept as they are"),
    ] = "frozen"

    @property
    def optimises(self) -> tuple[str, ...]:
        """A probe's accuracy on the forgotten side is what w_probe trains against; dimensional
        alignment is not.
        """
        return ("lp_forget", "lp_few_forget") if self.w_probe > 0 else ()

    @property
    def rows(self) -> int:
        """Of its log."""
        return self.rounds

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        if not task.forgotten_classes:
            raise Refused(
                f"{self.name} needs a class that is forgotten as a whole: its target is the original without that class"
            )
        if self.w_sd == 0 and self.w_probe == 0:
            raise Refused(f"{self.name} needs w_sd or w_probe above 0")
        student, gone = task.student(), torch.tensor(task.forgotten_classes)
        head = self._head(student) if self.redraw_head else None
        probe = FittedProbe(task.num_classes, batches=2 * self.memory, decay=self.probe_decay)
        seen = 0

        def loss(forget: LossInputs, kept: LossInputs) -> Tensor:
            nonlocal seen
            of_forget, of_kept = (
                masked_target(p.teachers[0].logits, gone.to(p.outputs.logits.device))
                for p in (forget, kept)
            )
            found = self.w_sd * kl_to_target(of_forget, forget.outputs.logits).mean()
            if self.w_probe > 0:
                for part in (forget, kept):
                    probe.remember(part.outputs.features, part.batch.labels)
                if seen % self.probe_every == 0:
                    probe.fit()
                seen += 1
                found = (
                    found
                    + self.w_probe * kl_to_target(of_forget, probe(forget.outputs.features)).mean()
                )
            found = (
                found + self.w_labels * cross_entropy(kept.outputs.logits, kept.batch.labels).mean()
            )
            found = found + self.w_logits * kl_to_target(of_kept, kept.outputs.logits).mean()
            return found + self.w_features * feature_error(
                kept.outputs.features, kept.teachers[0].features
            )

        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip=self.clip,
        )
        phase = Phase(
            "forget",
            (task.forget, retain),
            loss,
            optimizer,
            batch_size=self.batch_size,
            teachers=(task.teacher(),),
            norm=self.norm,
            steps_per_epoch=self.steps,
        )
        result = task.fit(student, [phase], epochs=self.rounds)
        if head is not None:
            self._redraw(head, list(task.forgotten_classes))
        return result

    def _head(self, model: nn.Module) -> nn.Linear:
        name, head = linear_head(model, self.name, changes=("weight", "bias"))
        if head.bias is None:
            raise Refused(
                f"{self.name} draws rows of the classifier head anew, and {name} has no bias; redraw_head=False leaves it"
            )
        return head

    @torch.no_grad()
    def _redraw(self, head: nn.Linear, gone: list[int]) -> None:
        kept = [c for c in range(head.out_features) if c not in gone]
        head.weight[gone] = head.weight[kept].mean(0)
        head.bias[gone] = head.bias[kept].mean() - self.margin


def feature_error(features: Tensor, original: Tensor) -> Tensor:
    """Mean of ‖f − f_0‖² over the batch, in units of the total variance of f_0 [B, D] in it: 1
    where all features became their mean.
    """
    return (features - original).square().sum(1).mean() / total_variance(original)


def total_variance(features: Tensor) -> Tensor:
    """The trace of the covariance of features [B, D], above 0 so that it can divide."""
    return features.var(0, correction=0).sum().clamp_min(torch.finfo(features.dtype).tiny)
