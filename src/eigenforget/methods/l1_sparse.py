"""l1-sparse: fine-tuning on the retain set while small weights are driven towards zero."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from eigenforget.core.fields import NonNegative, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, RetainEpochs, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised


@configured
class L1Sparse(SGDFields, Method):
    """Minimise CE(retain) + γ_t · ‖θ‖₁ over all trainable parameters, from the original's weights.

    Of T epochs the last T₀ = `plain_epochs` have no penalty. In epoch t < T − T₀, γ_t = gamma · (1
    − t / (T − T₀)) if the penalty is "decreasing", and γ_t = gamma if it is "constant".
    """

    name: ClassVar = "l1_sparse"
    source: ClassVar = (
        "Jia et al.: Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934, "
        "sparsity-aware unlearning; the decreasing schedule is that of the authors' code, whose "
        "gamma is the first epoch's weight; the variant (2 − 2t/T)·γ is gamma = 2γ here"
    )
    needs: ClassVar = ("retain", "labels")
    passes: ClassVar = "trained: epochs × retain"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2), "gamma": Range(1e-05, 1e-3)}
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
                gamma=1e-4,
                penalty="decreasing",
                plain_epochs=0,
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "JingWu321/Scissorhands, Classification/sh/main_0.1_cifar10.sh, 73ae065",
        ),
    }

    epochs: RetainEpochs = 5
    gamma: Annotated[NonNegative, "weight of ‖θ‖₁ in the first epoch"] = 5e-4
    penalty: Annotated[Literal["decreasing", "constant"], "the weight over the epochs"] = (
        "decreasing"
    )
    plain_epochs: Annotated[WholeNumber, "last epochs without penalty"] = 0
    lr: LearningRate = 0.05

    @pydantic.model_validator(mode="after")
    def _some_epochs_are_sparse(self) -> Self:
        if self.plain_epochs >= self.epochs:
            raise ValueError(f"plain_epochs={self.plain_epochs} must be below epochs={self.epochs}")
        return self

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        phase = Phase(
            "recover",
            (retain,),
            supervised,
            optimizer_of(self),
            batch_size=self.batch_size,
            penalty=lambda model, epoch: self.weight(epoch) * _l1(model),
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)

    def weight(self, epoch: int) -> float:
        """γ_t, the weight of the penalty in this epoch, counted from 0."""
        sparse = self.epochs - self.plain_epochs
        if epoch >= sparse:
            return 0.0
        return self.gamma * (1 - epoch / sparse) if self.penalty == "decreasing" else self.gamma


def _l1(model: nn.Module) -> Tensor:
    return torch.stack([p.abs().sum() for p in model.parameters() if p.requires_grad]).sum()
