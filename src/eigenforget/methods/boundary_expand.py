"""Boundary Expanding: send the forget set to an extra shadow class, then cut that class off."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchNorm, ForgetEpochs, LearningRate, SGDFields
from eigenforget.methods.published import ALL_CNN, CIFAR10, RESNET18, PublishedRun
from eigenforget.models.heads import plain_head, replace_module
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase, Schedule, WeightDecay


@configured
class BoundaryExpand(SGDFields, Method):
    """Minimise the cross-entropy of the forget set towards one more class, the shadow.

    The head has C + 1 outputs while it trains, and C again afterwards. The loss pushes the true
    class below the shadow, not below the other classes. So once the shadow is cut off, more forget
    accuracy may be left than after boundary_shrink.
    """

    name: ClassVar = "boundary_expand"
    source: ClassVar = (
        "Chen et al.: Boundary Unlearning, CVPR 2023, arXiv 2303.11570 (Boundary Expanding); the "
        "shadow row starts as nn.Linear's rows do"
    )
    needs: ClassVar = ("forget", "a linear head")
    passes: ClassVar = "trained: epochs × forget"
    search_space: ClassVar = {"lr": Range(1e-4, 0.05)}
    recipes: ClassVar = {
        "cifar10-allcnn-boundary": PublishedRun(
            dict(
                epochs=10,
                lr=1e-5,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=64,
                norm="train",
            ),
            ALL_CNN,
            CIFAR10,
            "one class",
            "TY-LEE-KR/Boundary-Unlearning-Code, boundary_unlearning.py, 19f9f23",
        ),
        "cifar10-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=8e-4,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=128,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "shaaaaron/DELETE, scripts.sh, 049eb0c",
        ),
        "cifar10-resnet18-scissorhands": PublishedRun(
            dict(
                epochs=10,
                lr=1e-6,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=256,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "JingWu321/Scissorhands, Classification/sh/main_0.1_cifar10.sh, 73ae065",
        ),
    }

    epochs: ForgetEpochs = 20
    lr: LearningRate = 2e-3
    weight_decay: WeightDecay = 0.0
    schedule: Schedule = "constant"
    norm: BatchNorm = "train"

    def __call__(self, task: Task) -> nn.Module:
        student = task.student()
        name, head = plain_head(student, self.name)
        wide = _with_shadow(head, seeds.generator(task.seed, "shadow"))
        replace_module(student, name, module=wide)

        def loss(part: LossInputs) -> Tensor:
            shadow = torch.full_like(part.batch.labels, head.out_features)
            return cross_entropy(part.outputs.logits, shadow)

        phase = Phase(
            "forget", (task.forget,), loss, optimizer_of(self), self.batch_size, norm=self.norm
        )
        task.fit(student, [phase], epochs=self.epochs)
        head.to(wide.weight.device)
        with torch.no_grad():
            head.weight.copy_(wide.weight[:-1])
            if head.bias is not None:
                head.bias.copy_(wide.bias[:-1])
        replace_module(student, name, module=head.eval())
        return student


def _with_shadow(head: nn.Linear, generator: torch.Generator) -> nn.Linear:
    """A head with one more output, whose row is uniform in ±1/√D as in a fresh nn.Linear."""
    wide = nn.Linear(
        head.in_features,
        head.out_features + 1,
        bias=head.bias is not None,
        device="meta",
        dtype=head.weight.dtype,
    ).to_empty(device=head.weight.device)
    with torch.no_grad():
        for new, old in zip(wide.parameters(), head.parameters(), strict=True):
            row = torch.rand(old.shape[1:], generator=generator) * 2 - 1
            new.copy_(torch.cat([old, (row / head.in_features**0.5).to(old).unsqueeze(0)]))
    return wide
