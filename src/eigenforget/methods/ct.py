"""CT: transpose the kernels of convolutions, then fine-tune on the retain set."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchSize, LearningRate, RetainEpochs, SGDFields
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised


@configured
class CT(SGDFields, Method):
    """Swap height and width of every convolution kernel, then minimise CE on the retain set.

    The transposed model sees each pattern mirrored along the diagonal. Much of what it knows has to
    be learnt again, and fine-tuning does so without the forget set. Kernels of unequal sides, of 1
    × 1, and frozen ones stay as they are. The forget set is not used.

    There is no recipe: the settings that Deep Unlearn searched for each data set are not in its
    code.
    """

    name: ClassVar = "ct"
    source: ClassVar = (
        "fifth of the NeurIPS 2023 unlearning challenge, as in Cadet et al.: Deep Unlearn, arXiv "
        "2410.01276 (Convolution Transpose), whose default settings are ours; the cosine falls "
        "with each step, not with each epoch, and momentum is Nesterov's by default"
    )
    needs: ClassVar = ("retain", "labels", "convolutions with square kernels")
    passes: ClassVar = "trained: epochs × retain"
    search_space: ClassVar = {"lr": Range(1e-4, 0.2)}

    epochs: RetainEpochs = 3
    lr: LearningRate = 1e-3
    batch_size: BatchSize = 64

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        phase = Phase("recover", (retain,), supervised, optimizer_of(self), self.batch_size)
        return task.fit(self.transposed(task), [phase], epochs=self.epochs)

    def transposed(self, task: Task) -> nn.Module:
        """A copy of the original with transposed kernels, before fine-tuning.

        Raises:
            Refused: It has no kernel that can be transposed.
        """
        student = task.student()
        kernels = {
            id(module.weight): module.weight
            for module in student.modules()
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
            and isinstance(module.weight, nn.Parameter)
            and module.weight.requires_grad
            and module.kernel_size[0] == module.kernel_size[1] > 1
        }
        if not kernels:
            raise Refused(
                f"ct transposes square kernels of convolutions, and {type(student).__name__} has "
                "none that is larger than 1 × 1 and not frozen"
            )
        with torch.no_grad():
            for weight in kernels.values():
                weight.copy_(weight.transpose(2, 3).clone())
        return student
