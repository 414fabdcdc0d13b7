"""Probed MUDA: self-distillation through linear probes that are fitted while training runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, NonNegative, Positive, TwoOrMore
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchNorm, Clip, LearningRate
from eigenforget.methods.fitted_probe import FittedProbe
from eigenforget.methods.retained import feature_error
from eigenforget.models.heads import linear_head
from eigenforget.training.losses import MaskedTarget, cross_entropy, kl_to_target
from eigenforget.training.phases import LossInputs, Momentum, Phase, Schedule, WeightDecay


@configured
class ProbedMUDA(Method):
    """Forget whole classes so that linear probes fitted during training cannot find them.

    Every step takes a forget batch and a retain batch. With q the softmax of the frozen original's
    logits without the forgotten classes,

        forget   w_sd · KL(q ‖ p_θ) + w_probe · KL(q ‖ softmax(A f_θ + a))
        retain   w_labels · CE + w_logits · KL(q ‖ p_θ) + w_features · ‖f_θ − f_0‖² / Var f_0

    f_θ are the features, f_0 the original's, and Var f_0 is the trace of their covariance over the
    batch. (A, a) is the multinomial logistic regression on the standardised features of the last
    `memory` steps, with true labels, the forgotten classes included. It is refitted every
    `probe_every` steps and constant in between. At the end the head's rows of the forgotten classes
    are replaced by the mean row and bias of the retained classes, `margin` lower. What the old rows
    held is then gone, not only hidden, and no forgotten class is predicted.
    """

    name: ClassVar = "probed_muda"
    source: ClassVar = (
        "our successor of MUDA (Seo, Kim, Han, arXiv 2407.17710): its self-distillation also "
        "goes through fitted probes, in the place of L_DA; joint steps in the place of "
        "alternation; retained outputs are distilled from the original, beside their labels"
    )
    needs: ClassVar = (
        "whole classes forgotten",
        "retain",
        "labels",
        "a linear head with bias, or redraw_head=False",
    )
    passes: ClassVar = "trained: epochs × steps × 2 batches; forward: as much again"
    search_space: ClassVar = {"lr": Range(0.01, 0.2), "w_probe": Range(0.1, 3.0)}

    epochs: Annotated[Count, "each has `steps` steps, in a random order of its own"] = 3
    steps: Annotated[Count, "steps of one epoch"] = 30
    w_sd: Annotated[NonNegative, "weight of the self-distillation of the forget set, in nats"] = 1.0
    w_probe: Annotated[
        NonNegative, "weight of the self-distillation through the probe, in nats"
    ] = 0.6
    w_labels: Annotated[NonNegative, "weight of the retained labels' cross-entropy, in nats"] = 3.0
    w_logits: Annotated[NonNegative, "weight of the retained logits' distillation, in nats"] = 10.0
    w_features: Annotated[
        NonNegative, "weight of the retained features' squared error over their variance"
    ] = 20.0
    probe_every: Annotated[Count, "steps between two fits of the probe"] = 5
    memory: Annotated[Count, "steps whose features the probe is fitted on"] = 8
    probe_decay: Annotated[Positive, "L2 penalty of the probe's weights on its mean loss"] = 1e-3
    redraw_head: Annotated[bool, "replace the head's rows of the forgotten classes at the end"] = (
        True
    )
    margin: Annotated[
        NonNegative, "how far a replaced bias lies below the mean of the retained ones"
    ] = 5.0
    lr: LearningRate = 0.05
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    clip: Clip = 1.0
    batch_size: Annotated[TwoOrMore, "samples of either side per step"] = 128
    norm: BatchNorm = "frozen"

    @property
    def optimises(self) -> tuple[str, ...]:
        """A probe's accuracy on the forget set, which w_probe trains against."""
        return ("lp_forget", "lp_few_forget") if self.w_probe > 0 else ()

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        gone = task.needs_gone_classes(
            self.name, why=": its target is the original without that class"
        )
        if self.w_sd == 0 and self.w_probe == 0:
            raise Refused(f"{self.name} needs w_sd or w_probe above 0")
        student = task.student()
        head = self._head(student) if self.redraw_head else None
        phase = Phase(
            "forget",
            (task.forget, retain),
            _Loss(self, task.num_classes, gone),
            optimizer_of(self),
            batch_size=self.batch_size,
            teachers=(task.teacher(),),
            norm=self.norm,
            steps_per_epoch=self.steps,
        )
        result = task.fit(student, [phase], epochs=self.epochs)
        if head is not None:
            self._redraw(head, list(task.forgotten_classes), task.retained_classes)
        return result

    def _head(self, model: nn.Module) -> nn.Linear:
        name, head = linear_head(model, self.name, changes=("weight", "bias"))
        if head.bias is None:
            raise Refused(
                f"{self.name} draws rows of the classifier head anew, and {name} has no bias; "
                "redraw_head=False leaves it"
            )
        return head

    @torch.no_grad()
    def _redraw(self, head: nn.Linear, gone: list[int], retained: Sequence[int]) -> None:
        kept = [c for c in retained if c not in gone]
        head.weight[gone] = head.weight[kept].mean(0)
        head.bias[gone] = head.bias[kept].mean() - self.margin


class _Loss:
    """The loss of one step, with the probe that it fits on the way."""

    def __init__(self, method: ProbedMUDA, num_classes: int, gone: Tensor) -> None:
        self._method, self._target = method, MaskedTarget(gone)
        self._probe = FittedProbe(
            num_classes,
            batches=2 * method.memory,
            decay=method.probe_decay,
            every=method.probe_every,
        )

    def __call__(self, forget: LossInputs, retained: LossInputs) -> Tensor:
        m = self._method
        of_forget, of_retained = (
            self._target(inputs.teachers[0].logits) for inputs in (forget, retained)
        )
        found = m.w_sd * kl_to_target(of_forget, forget.outputs.logits).mean()
        if m.w_probe > 0:
            probed = self._probe.step(forget, retained)
            found = found + m.w_probe * kl_to_target(of_forget, probed).mean()
        logits = retained.outputs.logits
        found = found + m.w_labels * cross_entropy(logits, retained.batch.labels).mean()
        found = found + m.w_logits * kl_to_target(of_retained, logits).mean()
        original = retained.teachers[0].features
        return found + m.w_features * feature_error(retained.outputs.features, original)
