"""head_distill: a control in which only the head learns to hide the forgotten classes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Method, Task, optimizer_of
from eigenforget.methods.fields import BatchSize
from eigenforget.models.heads import linear_head
from eigenforget.training.losses import MaskedTarget, kl_to_target
from eigenforget.training.phases import LossInputs, Momentum, Phase


@configured
class HeadDistill(Method):
    """Minimise KL(q ‖ p_θ) over forget and retain set, training the head alone.

    q is the original's softmax with the forgotten classes at −∞. Everything before the head,
    including batch-norm statistics, stays bit for bit as in the original. Black-box metrics take
    the result for a retrained model; metrics of features must not.
    """

    name: ClassVar = "head_distill"
    source: ClassVar = (
        "negative control: head distillation (HD) of Jeon et al., arXiv 2405.17878; its optimizer "
        "settings are not known to us"
    )
    needs: ClassVar = ("forget", "retain", "whole classes forgotten", "a linear head")
    guarantee: ClassVar = "none: every feature is the original's"
    role: ClassVar = "control"
    passes: ClassVar = "trained: epochs × (forget + retain), head only; forward: the same"

    epochs: Annotated[Count, "passes over forget and retain set together"] = 5
    lr: Annotated[Positive, "SGD learning rate of the head"] = 0.1
    momentum: Momentum = 0.9
    batch_size: BatchSize = 128

    def __call__(self, task: Task) -> nn.Module:
        gone = task.needs_gone_classes(self.name)
        retain = task.needs_retain(self.name)
        student = task.student()
        head, _ = linear_head(student, self.name, changes=("weight", "bias"))
        target = MaskedTarget(gone)

        def loss(part: LossInputs) -> Tensor:
            return kl_to_target(target(part.teachers[0].logits), part.outputs.logits)

        phase = Phase(
            "distil",
            (JoinedSource((task.forget, retain)),),
            loss,
            optimizer_of(self, weight_decay=0.0, schedule="cosine"),
            self.batch_size,
            teachers=(task.teacher(),),
            norm="frozen",
            trains=lambda name: name.rpartition(".")[0] == head,
        )
        return task.fit(student, [phase], epochs=self.epochs)
