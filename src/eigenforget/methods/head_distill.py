"""head_distill: only the classifier head learns to hide the forgotten classes. A negative control,
never recommended.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Task
from eigenforget.models.heads import linear_head
from eigenforget.training.losses import kl_to_target, masked_target
from eigenforget.training.phases import LossInputs, Momentum, Optimizer, Phase


@configured
class HeadDistill:
    """Train the head alone by KL(q ‖ p_θ) on all training data; q is the original's softmax with
    the forgotten classes at −∞.

    The encoder, batch-norm statistics included, stays bit for bit the original's. Black-box metrics
    take the result for a retrained model; metrics of features must not.
    """

    name: ClassVar[str] = "head_distill"
    source: ClassVar[str] = (
        "negative control: head distillation (HD) of Jeon et al., arXiv 2405.17878; its optimizer settings are not known to us"
    )
    needs: ClassVar[tuple[str, ...]] = (
        "forget",
        "retain",
        "whole classes forgotten",
        "a linear head",
    )
    guarantee: ClassVar[str] = "none: every feature is the original's"
    role: ClassVar[Literal["unlearned", "control"]] = "control"
    passes: ClassVar[str] = "trained: epochs × (forget + retain), head only; forward: the same"

    epochs: Annotated[
        int, Field(ge=1, description="passes over forget and retained data together")
    ] = 5
    lr: Annotated[float, Field(gt=0, description="SGD learning rate of the head")] = 0.1
    momentum: Momentum = 0.9
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    def __call__(self, task: Task) -> nn.Module:
        if not task.forgotten_classes:
            raise Refused("head_distill needs a class that is forgotten as a whole")
        retain = task.needs_retain(self.name)
        student = task.student()
        head, _ = linear_head(student, self.name, changes=("weight", "bias"))
        gone = torch.tensor(task.forgotten_classes)

        def loss(part: LossInputs) -> Tensor:
            return kl_to_target(masked_target(part.teachers[0].logits, gone), part.outputs.logits)

        phase = Phase(
            "distil",
            (JoinedSource((task.forget, retain)),),
            loss,
            Optimizer(lr=self.lr, momentum=self.momentum, weight_decay=0.0, schedule="cosine"),
            self.batch_size,
            teachers=(task.teacher(),),
            norm="frozen",
            trains=lambda name: name.rpartition(".")[0] == head,
        )
        return task.fit(student, [phase], epochs=self.epochs)
