"""Fine-tuning on the retain set: the simplest baseline."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, RetainEpochs, SGDFields
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

    epochs: RetainEpochs = 2
    lr: LearningRate = 0.05

    def __call__(self, task: Task) -> nn.Module:
        """See `Method`."""
        retain = task.needs_retain(self.name)
        phase = Phase("recover", (retain,), supervised, optimizer_of(self), self.batch_size)
        return task.fit(task.student(), [phase], epochs=self.epochs)
