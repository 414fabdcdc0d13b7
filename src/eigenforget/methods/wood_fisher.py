"""WoodFisher influence unlearning ("IU"): one step along an approximate inverse Fisher matrix."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.fields import GradientChunk
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.gradients import as_vector, in_shape, mean_gradient, visit_gradients


@configured
class WoodFisher(Method):
    """θ ← θ + alpha · P v with v = (N_f / N) · (∇ L_f − ∇ L_r), the mean losses' gradients.

    P stands for the inverse Fisher matrix of the retain set. It is applied by a recursion over
    single retain gradients g_1, g_2, …: o starts as g_1 and k as v; each further g takes

        k ← k − (k · g) / (S + o · g) · o   and   o ← o − (o · g) / (S + o · g) · o

    with S = `damping`. The column "IU" of most published tables comes from this recursion. It keeps
    one direction where Woodbury's formula needs all, so that P v differs from v along g_1 alone.
    Only weights move; batch-norm statistics stay.
    """

    name: ClassVar = "wood_fisher"
    source: ClassVar = (
        "Izzo et al., arXiv 2002.10077, and Koh, Liang, arXiv 1703.04730, with Singh, Alistarh: "
        "WoodFisher, arXiv 2004.14340, as in the code of Jia et al., arXiv 2304.04934; deviation: "
        "retain samples are drawn at random, not the first of the data"
    )
    needs: ClassVar = ("forget", "retain", "labels", "per-sample gradients")
    passes: ClassVar = "trained: forget + retain + samples (per-sample gradients)"
    search_space: ClassVar = {"alpha": Range(0.1, 100.0)}
    recipes: ClassVar = {
        "cifar10-resnet18-scissorhands": PublishedRun(
            dict(alpha=10.0, damping=1000.0, samples=1002),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "JingWu321/Scissorhands, Classification/sh/main_0.1_cifar10.sh, 73ae065",
        )
    }

    alpha: Annotated[Positive, "factor of the step"] = 1.0
    damping: Annotated[Positive, "S of the recursion"] = 1000.0
    samples: Annotated[Count, "retain samples of the recursion, drawn at random"] = 1000
    chunk: GradientChunk = None

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student()
        share = len(task.forget) / (len(task.forget) + len(retain))
        of_forget = mean_gradient(task.engine, student, task.forget)
        of_retain = mean_gradient(task.engine, student, retain)
        step = share * (as_vector(of_forget) - as_vector(of_retain))
        recursion = _Recursion(step, self.damping)
        sample = task.at_most(retain, self.samples, self.name)
        visit_gradients(task.engine, student, sample, recursion.take, chunk=self.chunk)
        with torch.no_grad():
            for name, moved in in_shape(self.alpha * recursion.step, of_forget).items():
                student.get_parameter(name).add_(moved)
        return student.eval()


class _Recursion:
    """The step k and the direction o."""

    def __init__(self, step: Tensor, damping: float) -> None:
        self.step, self._damping = step, damping
        self._direction: Tensor | None = None

    def take(self, gradient: Tensor) -> None:
        """Go on with the next gradient."""
        if self._direction is None:
            self._direction = gradient.clone()
            return
        scale = self._damping + self._direction @ gradient
        moved = (self.step @ gradient) / scale * self._direction
        shrunk = (self._direction @ gradient) / scale * self._direction
        self.step, self._direction = self.step - moved, self._direction - shrunk
