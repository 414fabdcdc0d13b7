"""MUNBa: forget and retain gradients bargain for each step."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eigenforget.core.fields import Count, NonNegative
from eigenforget.core.spec import configured
from eigenforget.data.sources import steps_in_epoch
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, SGDFields
from eigenforget.methods.random_label import RandomLabel, WrongLabels
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase
from eigenforget.training.recipe import supervised

_FORGET_SHARE = 0.1
"""Weight of the forget loss beside 1 where there is no bargain, as in the authors' code."""


class Bargain(NamedTuple):
    """The weights of the two losses."""

    retain: Tensor
    forget: Tensor


@configured
class MUNBa(SGDFields, Method):
    """Step along α_r ∇L_r + α_f ∇L_f, the Nash bargaining solution of the two gradients.

    L_r is the mean cross-entropy of a retain batch, L_f that of a forget batch with random labels.
    The solution maximises the product of what either loss gains, and solves Gᵀ G α = 1 / α with G =
    (g_r, g_f). For two players it is α_i = 1 / (‖g_i‖ √(1 + cos(g_r, g_f))): the bisector of the
    two directions. If a gradient is 0, or the two are opposite, there is no bargain, and the step
    is along ∇L_r + 0.1 ∇L_f. After a pass over the forget set, an epoch goes on with the remaining
    batches of a pass over the retain set. All steps share one momentum.

    There is no recipe: the authors' code has a parser of options, and no script with the settings
    of their runs.
    """

    name: ClassVar = "munba"
    source: ClassVar = (
        "Wu, Harandi: MUNBa: Machine Unlearning via Nash Bargaining, ICCV 2025, arXiv "
        "2411.15537, closed form of the classification experiments; deviations: the same solution "
        "in a form that does not cancel (the authors' code adds 1e-8 to its denominators, which "
        "counts where gradients are small); an epoch's later retain batches are drawn anew; of "
        "the defaults: never the own or a forgotten class as label, Nesterov momentum"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = "trained: epochs × (forget + retain); a backward pass more per forget batch"
    search_space: ClassVar = {"lr": Range(1e-4, 0.2)}

    epochs: Annotated[Count, "passes over the forget set and over the retain set"] = 5
    lr: LearningRate = 0.01
    clip: Annotated[NonNegative, "gradient-norm limit of the bargained steps, 0 for none"] = 1.0
    redraw: Annotated[
        Literal["never", "epoch", "batch"], "when the wrong labels are drawn anew"
    ] = "batch"
    candidates: Annotated[
        Literal["others", "all"],
        "labels to draw from: retained classes other than the own, or all as in published code",
    ] = "others"

    @property
    def log_rows(self) -> int:
        """Number of log rows: an epoch has a forget and a recover phase."""
        return 2 * self.epochs

    def __call__(self, task: Task) -> nn.Module:
        retain, student = task.needs_retain(self.name), task.student()
        labels = RandomLabel(redraw=self.redraw, candidates=self.candidates)
        wrong = WrongLabels(labels, task)
        weights = [p for p in student.parameters() if p.requires_grad]

        def loss(forget: LossInputs, retained: LossInputs) -> Tensor:
            of_forget = cross_entropy(forget.outputs.logits, wrong.of(forget)).mean()
            of_retain = supervised(retained)
            alpha = bargain(_gradient(of_retain, weights), forget=_gradient(of_forget, weights))
            return alpha.retain * of_retain + alpha.forget * of_forget

        steps = steps_in_epoch(len(task.forget), batch_size=self.batch_size)
        rest = max(1, steps_in_epoch(len(retain), batch_size=self.batch_size) - steps)
        forget = Phase(
            "forget",
            (task.forget, retain),
            loss,
            optimizer_of(self),
            self.batch_size,
            prepare=wrong.refresh,
        )
        recover = Phase(
            "recover",
            (retain,),
            supervised,
            optimizer_of(self, clip=0.0),
            self.batch_size,
            steps_per_epoch=rest,
            continues=True,
        )
        # Each process computes all by itself: a bargain needs whole gradients.
        own = replace(task, engine=task.engine.alone())
        return own.fit(student, [forget, recover], epochs=self.epochs)


def bargain(retain: Tensor, *, forget: Tensor) -> Bargain:
    """The Nash bargaining solution for two gradients [n], or (1, 0.1) where there is none."""
    of_retain, of_forget = retain.norm(), forget.norm()
    cosine = (retain @ forget) / (of_retain * of_forget)
    both = (1 + cosine).rsqrt()
    found = torch.stack([both / of_retain, both / of_forget])
    none = torch.tensor([1.0, _FORGET_SHARE]).to(found)
    # By where: nothing waits for the device to say whether there is a bargain.
    return Bargain(*torch.where(found.isfinite().all(), found, none))


def _gradient(loss: Tensor, weights: list[nn.Parameter]) -> Tensor:
    """The gradient [n] of the loss, whose graph stays; 0 for weights that it does not reach."""
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    pairs = zip(found, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])
