"""l1-sparse: fine-tuning on the retained data while small weights are driven towards zero."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule, WeightDecay
from eigenforget.training.recipe import supervised


@configured
class L1Sparse:
    """Minimise CE(retain) + γ_t · ‖θ‖₁ over all trainable parameters, starting from the original's
    weights.

    With T epochs, the last `plain_epochs` = T₀ of them without penalty, epoch t = 0 … T−1 has γ_t =
    gamma · (1 − t / (T − T₀)) for t < T − T₀ and 0 after ("decreasing"), or gamma there
    ("constant").
    """

    name: ClassVar[str] = "l1_sparse"
    source: ClassVar[str] = (
        "Jia et al.: Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934, sparsity-aware unlearning; the "
        "decreasing schedule is that of the authors' code, whose gamma is the first epoch's weight; the variant (2 − "
        "2t/T)·γ is gamma = 2γ here"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × retain"
    # As the baseline runs in the Scissorhands scripts (arXiv 2401.06187), 10 % random samples.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "cifar10-resnet18": {
            "epochs": 10,
            "gamma": 1e-4,
            "lr": 0.01,
            "batch_size": 256,
            "schedule": "constant",
        },
    }

    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 5
    gamma: Annotated[float, Field(ge=0, description="weight of ‖θ‖₁ in the first epoch")] = 5e-4
    penalty: Annotated[
        Literal["decreasing", "constant"], Field(description="the weight over the epochs")
    ] = "decreasing"
    plain_epochs: Annotated[int, Field(ge=0, description="last epochs without penalty")] = 0
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.05
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    @pydantic.model_validator(mode="after")
    def _some_epochs_are_sparse(self) -> Self:
        if self.plain_epochs >= self.epochs:
            raise ValueError(f"plain_epochs={self.plain_epochs} must be below epochs={self.epochs}")
        return self

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
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
            penalty=lambda model, cycle: self.weight(cycle) * _l1(model),
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)

    def weight(self, epoch: int) -> float:
        """γ_t."""
        sparse = self.epochs - self.plain_epochs
        if epoch >= sparse:
            return 0.0
        return self.gamma * (1 - epoch / sparse) if self.penalty == "decreasing" else self.gamma


def _l1(model: nn.Module) -> Tensor:
    return torch.stack([p.abs().sum() for p in model.parameters() if p.requires_grad]).sum()
