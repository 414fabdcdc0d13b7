"""Fine-tuning on the retained data: the simplest baseline, which forgets only what training on the
rest overwrites.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule, WeightDecay
from eigenforget.training.recipe import supervised


@configured
class Finetune:
    """Minimise the cross-entropy of the retained data, starting from the original's weights."""

    name: ClassVar[str] = "finetune"
    source: ClassVar[str] = (
        "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, arXiv 1911.04933 (baseline)"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × retain"

    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 2
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.05
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        phase = Phase("recover", (retain,), supervised, optimizer, self.batch_size)
        return task.fit(task.student(), [phase], epochs=self.epochs)
