"""collapse: ascent until the model is ruined. A control that forgets by knowing nothing, never
recommended.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Momentum, Optimizer, Phase


@configured
class Collapse:
    """Gradient ascent on the cross-entropy of the forget data at a destructive learning rate.

    −CE has no lower bound; the gradient norm is clipped, so that each weight moves by a bounded
    amount and the result is finite. A metric that calls this model well unlearned measures damage,
    not forgetting.
    """

    name: ClassVar[str] = "collapse"
    source: ClassVar[str] = "negative control: NegGrad (arXiv 1911.04933) driven to ruin"
    needs: ClassVar[tuple[str, ...]] = ("forget", "labels")
    guarantee: ClassVar[str] = "none: the whole model is destroyed, with what it had to keep"
    role: ClassVar[Literal["unlearned", "control"]] = "control"
    passes: ClassVar[str] = "trained: steps × batch_size"

    steps: Annotated[int, Field(ge=1, description="steps of ascent")] = 60
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.5
    momentum: Momentum = 0.9
    clip: Annotated[
        float, Field(gt=0, description="gradient-norm limit, which keeps the weights finite")
    ] = 1.0
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    def __call__(self, task: Task) -> nn.Module:
        optimizer = Optimizer(lr=self.lr, momentum=self.momentum, weight_decay=0.0, clip=self.clip)
        phase = Phase(
            "collapse",
            (task.forget,),
            lambda part: -cross_entropy(part.outputs.logits, part.batch.labels),
            optimizer,
            self.batch_size,
            steps_per_epoch=self.steps,
        )
        return task.fit(task.student(), [phase], epochs=1)
