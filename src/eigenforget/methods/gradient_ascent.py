"""Gradient ascent on the forget data: the simplest way to undo, with nothing that protects the
rest.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule, WeightDecay


@configured
class GradientAscent:
    """Minimise −CE on the forget data. No retain data is used, so only few, small steps keep the
    rest of the model useful.

    −CE has no lower bound: the default is 25 steps whatever the number of forget samples. Batches
    hold forget samples only, so norm="train" moves batch-norm statistics towards them;
    norm="frozen" normalises with the original's.
    """

    name: ClassVar[str] = "gradient_ascent"
    source: ClassVar[str] = (
        "Golatkar, Achille, Soatto, arXiv 1911.04933 (negative gradient); Thudi et al., arXiv 2109.13398; gradient clipping is "
        "our addition"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × steps_per_epoch × batch_size"
    # The baseline of the Scissorhands scripts (arXiv 2401.06187), 10 % random samples; they clip
    # nothing.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "cifar10-resnet18": {
            "epochs": 5,
            "steps_per_epoch": None,
            "lr": 1e-4,
            "batch_size": 256,
            "weight_decay": 5e-4,
            "clip": 0.0,
        },
    }

    epochs: Annotated[int, Field(ge=1, description="number of epochs")] = 5
    steps_per_epoch: Annotated[
        int | None,
        Field(ge=1, description="steps of one epoch, in fresh random order; None is one pass"),
    ] = 5
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 5e-3
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 0.0
    schedule: Schedule = "constant"
    clip: Annotated[float, Field(ge=0, description="gradient-norm limit, 0 for none")] = 1.0
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 64
    norm: Annotated[
        Literal["train", "frozen"],
        Field(description="batch-norm statistics: updated, or kept as they are"),
    ] = "train"

    def __call__(self, task: Task) -> nn.Module:
        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip=self.clip,
        )
        phase = Phase(
            "forget",
            (task.forget,),
            lambda part: -cross_entropy(part.outputs.logits, part.batch.labels),
            optimizer,
            batch_size=self.batch_size,
            norm=self.norm,
            steps_per_epoch=self.steps_per_epoch,
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
