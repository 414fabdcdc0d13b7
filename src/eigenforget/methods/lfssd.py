"""Loss-free selective synaptic dampening: SSD without labels."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.published import CIFAR20, RESNET18, PublishedRun
from eigenforget.methods.ssd import DampeningFields, dampened
from eigenforget.training.gradients import Weights, sensitivity, squared_norm


@configured
class LFSSD(DampeningFields, Method):
    """θ ← min(λ I_D / I_f, 1) · θ wherever I_f > α I_D, with I the mean of |∇ ‖f(x)‖²|.

    I_f is the mean over the forget set, I_D that over forget and retain set together, and f are the
    logits. So how much a weight moves the outputs replaces SSD's Fisher information, and labels are
    not used. All else is as in `ssd`: with estimator="sample" no ratio exceeds N / N_f; "batch"
    takes the gradient of the mean over a batch, as the authors' code does.
    """

    name: ClassVar = "lfssd"
    source: ClassVar = (
        "Foster, Schoepf, Brintrup: Loss-Free Machine Unlearning, arXiv 2402.19308; "
        "estimator='batch' as in the authors' code; alpha=None is ASSD's percentile, arXiv "
        "2402.10098, which the paper does not use"
    )
    needs: ClassVar = ("forget", "retain", "per-sample gradients")
    passes: ClassVar = (
        "trained: forget + retain, or importance_samples of each; twice forget + retain with "
        "estimator='batch'"
    )
    search_space: ClassVar = {"dampening": Range(0.05, 2.0)}
    recipes: ClassVar = {
        "cifar20-resnet18-supreme": PublishedRun(
            dict(
                alpha=5.0,
                dampening=1.0,
                estimator="batch",
                batch_size=64,
            ),
            RESNET18,
            CIFAR20,
            "one class",
            "pedroandreou/supreme-unlearning, utils/unlearning/unlearn_main.py, 9d776fd",
        ),
    }

    def __call__(self, task: Task) -> nn.Module:
        size = self.batch_size if self.estimator == "batch" else None

        def importance(model: nn.Module, source: Source) -> Weights:
            return sensitivity(
                task.engine,
                model,
                source,
                loss=squared_norm,
                power=1,
                batch_size=size,
                chunk=self.chunk,
            )

        return dampened(task, self, importance)
