"""NegGrad+: descent on the retained data and ascent on the forget data in the same step."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import (
    LossInputs,
    Momentum,
    Optimizer,
    Phase,
    Schedule,
    WeightDecay,
)


@configured
class NegGradPlus:
    """Minimise α · mean CE(retain batch) − (1 − α) · mean CE(forget batch).

    An epoch is one pass over the retained data; forget batches start again where they run out. Both
    batches pass through the model on their own, the retain batch first. α near 1 is needed: the
    ascent term has no lower bound.
    """

    name: ClassVar[str] = "neg_grad_plus"
    source: ClassVar[str] = (
        "Kurmanji et al.: Towards Unbounded Machine Unlearning, arXiv 2302.09880 (baseline NegGrad+); gradient clipping "
        "and momentum are our additions"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × 2 × retain"

    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 5
    alpha: Annotated[
        float,
        Field(gt=0, le=1, description="weight of the retained data; the forget data has 1 − alpha"),
    ] = 0.95
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.02
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    clip: Annotated[float, Field(ge=0, description="gradient-norm limit, 0 for none")] = 1.0
    batch_size: Annotated[
        int, Field(ge=2, description="samples per step of each of the two batches")
    ] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)

        def loss(kept: LossInputs, gone: LossInputs) -> Tensor:
            descent = cross_entropy(kept.outputs.logits, kept.batch.labels).mean()
            ascent = cross_entropy(gone.outputs.logits, gone.batch.labels).mean()
            return self.alpha * descent - (1 - self.alpha) * ascent

        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip=self.clip,
        )
        phase = Phase("retain and forget", (retain, task.forget), loss, optimizer, self.batch_size)
        return task.fit(task.student(), [phase], epochs=self.epochs)
