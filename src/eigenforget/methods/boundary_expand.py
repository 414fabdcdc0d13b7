"""Boundary Expanding: send the forget data to an extra shadow class, then cut that class off."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.models.heads import plain_head, replace_module
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Momentum, Optimizer, Phase, WeightDecay


@configured
class BoundaryExpand:
    """Cross-entropy of the forget data towards output C of a head with C + 1 outputs, which then
    becomes a head of C again.

    The loss takes the true class below the shadow, not below the other classes: with the shadow cut
    off, more forget accuracy may be left than after boundary_shrink.
    """

    name: ClassVar[str] = "boundary_expand"
    source: ClassVar[str] = (
        "Chen et al.: Boundary Unlearning, CVPR 2023, arXiv 2303.11570 (Boundary Expanding); the shadow row starts as nn.Linear's "
        "rows do"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "a linear head")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × forget"
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        # As compared in the public code of DELETE, arXiv 2503.23751.
        "cifar10-resnet18": {
            "epochs": 20,
            "lr": 8e-4,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "batch_size": 128,
        },
    }

    epochs: Annotated[int, Field(ge=1, description="passes over the forget data")] = 20
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 2e-3
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 0.0
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128
    norm: Annotated[
        Literal["train", "frozen"],
        Field(description="batch-norm statistics: updated on the forget data, or kept as they are"),
    ] = "train"

    def __call__(self, task: Task) -> nn.Module:
        student = task.student()
        name, head = plain_head(student, self.name)
        wide = widened(head, seeds.generator(task.seed, "shadow"))
        replace_module(student, name, wide)

        def loss(part: LossInputs) -> Tensor:
            return cross_entropy(
                part.outputs.logits, torch.full_like(part.batch.labels, head.out_features)
            )

        optimizer = Optimizer(lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        phase = Phase("forget", (task.forget,), loss, optimizer, self.batch_size, norm=self.norm)
        task.fit(student, [phase], epochs=self.epochs)
        head.to(wide.weight.device)
        with torch.no_grad():
            head.weight.copy_(wide.weight[:-1])
            if head.bias is not None:
                head.bias.copy_(wide.bias[:-1])
        replace_module(student, name, head.eval())
        return student


def widened(head: nn.Linear, generator: torch.Generator) -> nn.Linear:
    """A head with one more output; the first ones are copies, the last is uniform in ±1/√D as in a
    fresh nn.Linear.
    """
    has_bias = head.bias is not None
    wide = nn.Linear(
        head.in_features,
        head.out_features + 1,
        bias=has_bias,
        device="meta",
        dtype=head.weight.dtype,
    )
    wide = wide.to_empty(device=head.weight.device)
    pairs = [(wide.weight, head.weight)] + ([(wide.bias, head.bias)] if has_bias else [])
    with torch.no_grad():
        for new, old in pairs:
            row = torch.rand(old.shape[1:], generator=generator) * 2 - 1
            new.copy_(torch.cat([old, (row / head.in_features**0.5).to(old).unsqueeze(0)]))
    return wide
