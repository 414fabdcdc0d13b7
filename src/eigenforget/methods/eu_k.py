"""EU-k: draw the last k layers anew and train them on the retained data, with the others kept as
they are.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.methods.cf_k import draw_anew, last_layers
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule, WeightDecay
from eigenforget.training.recipe import supervised


@configured
class EUk:
    """Re-initialise the last k layers and train them from scratch on the retained data ("exactly
    unlearning k").

    Which layers are trained, and what is kept, frozen parameters included, is as in cf_k.
    Re-initialised batch norms also lose their statistics, but for those without parameters. Exact
    for the last k layers alone: the frozen ones were fitted to the forget data.
    """

    name: ClassVar[str] = "eu_k"
    source: ClassVar[str] = (
        "Goel et al.: Towards Adversarial Evaluations for Inexact Machine Unlearning, arXiv 2201.06640; deviations: "
        "frozen batch norms keep their statistics, and normalisation layers among the last k are re-initialised too "
        "(the published code does neither)"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels", "modules with reset_parameters()")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × retain, last k layers"

    k: Annotated[
        int,
        Field(
            ge=1, description="number of convolutions and linear layers to retrain, from the end"
        ),
    ] = 3
    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 10
    lr: Annotated[float, Field(gt=0, description="peak SGD learning rate")] = 0.1
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "onecycle"
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student().cpu()
        layers = last_layers(student, self.k, self.name)
        trains = draw_anew(
            student, layers, seed=seeds.derive(task.seed, self.name), method=self.name
        )
        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        phase = Phase(
            "recover",
            (retain,),
            supervised,
            optimizer,
            batch_size=self.batch_size,
            trains=trains.__contains__,
            norm="trained",
        )
        return task.fit(student, [phase], epochs=self.epochs)
