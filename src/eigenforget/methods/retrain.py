"""Retraining from scratch on the retain set: exact unlearning, at the price of a training."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import nn

from eigenforget.core import notices, seeds
from eigenforget.core.fields import NonNegative, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Task, optimizer_of
from eigenforget.methods.fields import BatchSize, RetainEpochs
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.phases import Momentum, Phase, Schedule
from eigenforget.training.recipe import supervised


@configured
class Retrain(Method):
    """Reinitialise every weight and train on the retain set alone.

    The result depends only on the architecture, the retain set, the seed and the fields. No value
    of the given model's parameters and buffers enters it, and no forget sample does. (Fields that
    were tuned on the forget set would leak it.) Frozen parameters are drawn anew too, and are then
    left as drawn. Constants such as masks and positions stay as they are (see `reinitialise`).
    Weights start as each module's reset_parameters() draws them, which may differ from the
    distribution that the original started from. A model with a parameter or buffer that no
    reset_parameters() sets is refused.
    """

    name: ClassVar = "retrain"
    source: ClassVar = (
        "the definition of exact unlearning: Cao, Yang 2015; Bourtoule et al., arXiv 1912.03817, "
        "section III"
    )
    needs: ClassVar = ("retain", "labels", "modules with reset_parameters()")
    guarantee: ClassVar = "exact"
    passes: ClassVar = "trained: epochs × retain"

    epochs: RetainEpochs = 30
    batch_size: BatchSize = 128
    optimizer: Annotated[Literal["sgd", "adamw"], "SGD with Nesterov momentum, or AdamW"] = "sgd"
    lr: Annotated[Positive, "peak learning rate"] = 0.1
    momentum: Momentum = 0.9
    weight_decay: Annotated[NonNegative, "L2 penalty (SGD) or decoupled decay (AdamW)"] = 5e-4
    schedule: Schedule = "onecycle"

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        fresh = task.student().cpu()
        frozen = sum(not parameter.requires_grad for parameter in fresh.parameters())
        if frozen:
            notices.warn(
                f"{self.name} draws {frozen} frozen weights anew and leaves them untrained; where "
                "they are pretrained, give train_oracles a function that makes the pretrained model"
            )
        reinitialise(
            dict(fresh.named_modules()), seed=seeds.derive(task.seed, "retrain"), method=self.name
        )
        optimizer = optimizer_of(self, kind=self.optimizer)
        phase = Phase("train", (retain,), supervised, optimizer, self.batch_size)
        return task.fit(fresh, [phase], epochs=self.epochs)
