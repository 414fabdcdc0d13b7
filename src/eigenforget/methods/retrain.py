"""Retraining from scratch on the retained data: exact unlearning, at the price of training."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule
from eigenforget.training.recipe import supervised


@configured
class Retrain:
    """Draw every weight anew and train on the retained data only; the result does not depend on the
    original's weights.

    Not one bit of the given model's parameters and buffers, and no forget sample, enters the
    result; it depends on the architecture, the retained data, the seed and the fields. (Fields that
    were tuned on the forget data would be a leak of your own.) Frozen parameters are drawn anew
    too, and then stay at what was drawn; constants such as masks and positions stay as they are
    (see `reinitialise`). Weights start as each module's reset_parameters() draws them, which may
    differ from the distribution the original started from. Refused: a model with a parameter or
    buffer that reset_parameters() does not set.
    """

    name: ClassVar[str] = "retrain"
    source: ClassVar[str] = (
        "the definition of exact unlearning: Cao, Yang 2015; Bourtoule et al., arXiv 1912.03817, section III"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels", "modules with reset_parameters()")
    guarantee: ClassVar[str] = "exact"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × retain"

    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 30
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128
    optimizer: Annotated[
        Literal["sgd", "adamw"], Field(description="SGD with Nesterov momentum, or AdamW")
    ] = "sgd"
    lr: Annotated[float, Field(gt=0, description="peak learning rate")] = 0.1
    momentum: Momentum = 0.9
    weight_decay: Annotated[
        float, Field(ge=0, description="L2 penalty (SGD) or decoupled decay (AdamW)")
    ] = 5e-4
    schedule: Schedule = "onecycle"

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        fresh = task.student().cpu()
        reinitialise(
            dict(fresh.named_modules()), seed=seeds.derive(task.seed, "retrain"), method=self.name
        )
        optimizer = Optimizer(
            kind=self.optimizer,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        phase = Phase("train", (retain,), supervised, optimizer, self.batch_size)
        return task.fit(fresh, [phase], epochs=self.epochs)
