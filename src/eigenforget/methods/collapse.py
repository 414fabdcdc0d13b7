"""collapse: ascent until the model is ruined, a control that forgets by knowing nothing."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Task, optimizer_of
from eigenforget.methods.fields import BatchSize, LearningRate
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Momentum, Phase


@configured
class Collapse(Method):
    """Gradient ascent on the cross-entropy of the forget set at a destructive learning rate.

    −CE has no lower bound, but the gradient norm is clipped: each weight moves by a bounded amount,
    and the result is finite. A metric by which this model has unlearned well measures damage, not
    forgetting.
    """

    name: ClassVar = "collapse"
    source: ClassVar = "negative control: NegGrad (arXiv 1911.04933) driven to ruin"
    needs: ClassVar = ("forget", "labels")
    guarantee: ClassVar = "none: the whole model is destroyed, with what it had to keep"
    role: ClassVar = "control"
    passes: ClassVar = "trained: steps × batch_size"

    steps: Annotated[Count, "steps of ascent"] = 60
    lr: LearningRate = 0.5
    momentum: Momentum = 0.9
    clip: Annotated[Positive, "gradient-norm limit, which keeps the weights finite"] = 1.0
    batch_size: BatchSize = 128

    @property
    def log_rows(self) -> int:
        """Number of log rows: all steps are one epoch."""
        return 1

    def __call__(self, task: Task) -> nn.Module:
        optimizer = optimizer_of(self, weight_decay=0.0)
        phase = Phase(
            "collapse",
            (task.forget,),
            lambda part: -cross_entropy(part.outputs.logits, part.batch.labels),
            optimizer,
            self.batch_size,
            steps_per_epoch=self.steps,
        )
        return task.fit(task.student(), [phase], epochs=1)
