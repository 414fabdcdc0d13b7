"""Random labels: teach the forget set wrong labels, then repair on the retain set."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchSize
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Momentum, Phase, Schedule, WeightDecay
from eigenforget.training.recipe import supervised


@configured
class RandomLabel(Method):
    """Alternate an epoch on the forget set with wrong labels and one on the retain set.

    Each forget sample's label is drawn once, uniformly from the classes that are not gone as a
    whole, without its own.
    """

    name: ClassVar = "random_label"
    source: ClassVar = (
        "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, arXiv 1911.04933; "
        "alternation per epoch as in SalUn, arXiv 2310.12508; deviation: never a forgotten class "
        "as label"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = "trained: epochs × (forget + retain)"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}

    epochs: Annotated[Count, "passes over the forget set and over the retain set"] = 2
    lr: Annotated[Positive, "SGD learning rate of both"] = 0.02
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    batch_size: BatchSize = 128

    @property
    def log_rows(self) -> int:
        """Number of log rows: each epoch has a forget and a recover phase."""
        return 2 * self.epochs

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        wrong = self.labels(task)

        def forget_loss(part: LossInputs) -> Tensor:
            labels = wrong[part.batch.positions.cpu()].to(part.outputs.logits.device)
            return cross_entropy(part.outputs.logits, labels)

        optimizer = optimizer_of(self)
        forget = Phase("forget", (task.forget,), forget_loss, optimizer, self.batch_size)
        recover = Phase("recover", (retain,), supervised, optimizer, self.batch_size)
        return task.fit(task.student(), [forget, recover], epochs=self.epochs)

    def labels(self, task: Task) -> Tensor:
        """The wrong label [N_f] of each forget sample."""
        true = torch.as_tensor(task.forget.labels())
        allowed = torch.zeros(len(true), task.num_classes, dtype=torch.bool)
        allowed[:, list(task.retained_classes)] = True
        allowed[:, list(task.forgotten_classes)] = False
        allowed[torch.arange(len(true)), true] = False
        if not allowed.any(1).all():
            raise Refused("random_label needs a second class that is retained")
        generator = seeds.generator(task.seed, self.name)
        return torch.multinomial(allowed.double(), 1, generator=generator).squeeze(1)
