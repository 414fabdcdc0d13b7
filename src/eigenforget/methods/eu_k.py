"""EU-k: draw the last k layers anew and train them on the retain set."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from eigenforget.core import seeds
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.cf_k import draw_anew, last_layers, last_phase
from eigenforget.methods.fields import RetainEpochs, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.phases import Schedule


@configured
class EUk(SGDFields, Method):
    """Draw the last k layers anew and train them on the retain set ("exactly unlearning k").

    The layers that train, and what stays as it is, are those of cf_k. Batch norms that are drawn
    anew also lose their statistics, except those without parameters. The method is exact for the
    last k layers only: the earlier ones were fitted to the forget set.
    """

    name: ClassVar = "eu_k"
    source: ClassVar = (
        "Goel et al.: Towards Adversarial Evaluations for Inexact Machine Unlearning, arXiv "
        "2201.06640; deviations: frozen batch norms keep their statistics, and normalisation "
        "layers among the last k are re-initialised too (the published code does neither)"
    )
    needs: ClassVar = ("retain", "labels", "modules with reset_parameters()")
    passes: ClassVar = "trained: epochs × retain, last k layers"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-scrub": PublishedRun(
            dict(
                epochs=25,
                lr=0.01,
                momentum=0.0,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=64,
                drops=(0.4, 0.6, 0.8),
                k=6,
            ),
            RESNET18,
            CIFAR10,
            "100 samples of one class",
            "meghdadk/SCRUB, MIA_experiments.ipynb, 98ffb11",
            "layer4 takes its initial weights there, the head stays; k=6 draws both anew",
        ),
    }

    k: Annotated[Count, "number of convolutions and linear layers to retrain, from the end"] = 3
    epochs: RetainEpochs = 10
    lr: Annotated[Positive, "peak SGD learning rate"] = 0.1
    schedule: Schedule = "onecycle"

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student().cpu()
        trains = draw_anew(
            student,
            last_layers(student, self.k, self.name),
            seed=seeds.derive(task.seed, self.name),
            method=self.name,
        )
        phase = last_phase(self, retain, trains, batch_size=self.batch_size)
        return task.fit(student, [phase], epochs=self.epochs)
