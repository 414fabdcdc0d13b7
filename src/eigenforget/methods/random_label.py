"""Random labels: teach the forget data wrong labels, then repair on the retained data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import (
    LossInputs,
    Momentum,
    Optimizer,
    Phase,
    Schedule,
    WeightDecay,
)
from eigenforget.training.recipe import supervised


@configured
class RandomLabel:
    """Cross-entropy towards one random wrong label per forget sample, alternating per epoch with
    the retained data.

    The wrong label is drawn once, uniformly from the classes that are retained (any class, where
    none is forgotten as a whole), the sample's own excluded.
    """

    name: ClassVar[str] = "random_label"
    source: ClassVar[str] = (
        "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, arXiv 1911.04933; alternation per epoch "
        "as in SalUn, arXiv 2310.12508; deviation: never a forgotten class as label"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × (forget + retain)"

    epochs: Annotated[
        int, Field(ge=1, description="passes over the forget data and over the retained data")
    ] = 2
    lr: Annotated[float, Field(gt=0, description="SGD learning rate of both")] = 0.02
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    @property
    def rows(self) -> int:
        """Of its log: a forget and a recover phase each epoch."""
        return 2 * self.epochs

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        wrong = self.labels(task)

        def forget_loss(part: LossInputs) -> Tensor:
            labels = wrong[part.batch.positions.cpu()].to(part.outputs.logits.device)
            return cross_entropy(part.outputs.logits, labels)

        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        phases = [
            Phase("forget", (task.forget,), forget_loss, optimizer, self.batch_size),
            Phase("recover", (retain,), supervised, optimizer, self.batch_size),
        ]
        return task.fit(task.student(), phases, epochs=self.epochs)

    def labels(self, task: Task) -> Tensor:
        """The wrong label [N_f] of each forget sample."""
        true = torch.as_tensor(task.forget.labels())
        allowed = torch.ones(len(true), task.num_classes, dtype=torch.bool)
        allowed[:, list(task.forgotten_classes)] = False
        allowed[torch.arange(len(true)), true] = False
        if not allowed.any(1).all():
            raise Refused("random_label needs a second class that is retained")
        return torch.multinomial(
            allowed.double(), 1, generator=seeds.generator(task.seed, "random_label")
        ).squeeze(1)
