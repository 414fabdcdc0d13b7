"""Fine-tuning on the retain set: the simplest baseline."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, RetainEpochs, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised


@configured
class Finetune(SGDFields, Method):
    """Minimise the cross-entropy of the retain set, starting from the original's weights.

    It forgets only what this training overwrites.
    """

    name: ClassVar[str] = "finetune"
    source: ClassVar[str] = (
        "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, arXiv 1911.04933 "
        "(baseline)"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels")
    passes: ClassVar[str] = "trained: epochs × retain"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-scissorhands": PublishedRun(
            dict(
                epochs=10,
                lr=0.01,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=256,
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "JingWu321/Scissorhands, Classification/sh/main_0.1_cifar10.sh, 73ae065",
        ),
        "cifar10-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=2e-2,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=128,
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "shaaaaron/DELETE, scripts.sh, 049eb0c",
        ),
        "cifar10-resnet18-scrub": PublishedRun(
            dict(
                epochs=10,
                lr=0.04,
                momentum=0.0,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=32,
            ),
            RESNET18,
            CIFAR10,
            "100 samples of one class",
            "meghdadk/SCRUB, MIA_experiments.ipynb, 98ffb11",
        ),
    }

    epochs: RetainEpochs = 2
    lr: LearningRate = 0.05

    def __call__(self, task: Task) -> nn.Module:
        """See `Method`."""
        retain = task.needs_retain(self.name)
        phase = Phase("recover", (retain,), supervised, optimizer_of(self), self.batch_size)
        return task.fit(task.student(), [phase], epochs=self.epochs)
