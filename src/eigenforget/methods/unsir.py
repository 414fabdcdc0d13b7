"""UNSIR: impair the model with noise that maximises its error, then repair it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.fields import Count, NonNegative, Positive, TwoOrMore
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource, Source, TensorSource
from eigenforget.methods.base import Method, Range, Task, adam, real_valued
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.models.features import logits_of
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised


@configured
class UNSIR(Method):
    """Learn noise for each forgotten class, train on it, then repair on a retain sample.

    The noise of class c minimises −CE(f(noise), c) + λ · mean ‖noise‖², with the weights of the
    original f fixed. The impair phase minimises the cross-entropy of the noise labelled c, mixed
    with the retain sample. The repair phase minimises the cross-entropy of the retain sample. The
    forget set is not used.
    """

    name: ClassVar = "unsir"
    source: ClassVar = (
        "Tarun et al.: Fast Yet Effective Machine Unlearning, arXiv 2111.08947; settings of its "
        "public notebook; deviations: noise keeps its own class as label where several are "
        "forgotten (the notebook labels all of it 0), and is learnt through a copy (there it moves "
        "the batch-norm statistics of the model itself)"
    )
    needs: ClassVar = (
        "retain (a sample)",
        "labels",
        "whole classes forgotten",
        "real-valued inputs",
    )
    passes: ClassVar = (
        "trained: noise_steps × noise + repeats × noise + (1 + repair_epochs) × retain sample"
    )
    search_space: ClassVar = {"impair_lr": Range(1e-4, 0.05), "repair_lr": Range(1e-4, 0.02)}
    recipes: ClassVar = {
        "cifar10-resnet18-unsir": PublishedRun(
            dict(
                noise_samples=256,
                noise_steps=40,
                noise_lr=0.1,
                noise_penalty=0.1,
                repeats=20,
                impair_samples=3,
                noise_norm="train",
                retain_per_class=1000,
                impair_lr=0.02,
                repair_lr=0.01,
                repair_epochs=1,
                batch_size=256,
            ),
            RESNET18,
            CIFAR10,
            "two classes",
            "vikram2000b/Fast-Machine-Unlearning, Machine Unlearning.ipynb, 252bc92",
            "its loop over batch[0].size(0), the channels, takes 3 of the 256 noise images",
        ),
    }

    noise_samples: Annotated[TwoOrMore, "noise inputs per forgotten class"] = 256
    noise_steps: Annotated[Count, "Adam steps on the noise"] = 40
    noise_lr: Annotated[Positive, "Adam learning rate of the noise"] = 0.1
    noise_penalty: Annotated[NonNegative, "λ, weight of the mean squared norm of a noise input"] = (
        0.1
    )
    repeats: Annotated[Count, "how often each noise input is seen in the impair phase"] = 5
    retain_per_class: Annotated[Count, "retain samples per class, at most"] = 1000
    impair_lr: Annotated[Positive, "Adam learning rate of the impair phase"] = 0.02
    repair_lr: Annotated[Positive, "Adam learning rate of the repair phase"] = 0.01
    repair_epochs: Annotated[Count, "passes over the retain sample in the repair phase"] = 3
    impair_samples: Annotated[
        Count | None, "noise inputs per class that the impair phase sees; None takes all"
    ] = None
    noise_norm: Annotated[
        Literal["frozen", "train"],
        "batch norm while noise is learnt: the original's statistics, or those of the noise",
    ] = "frozen"
    batch_size: Annotated[TwoOrMore, "samples per step of the impair and repair phases"] = 256

    @property
    def log_rows(self) -> int:
        """Number of log rows where one class is forgotten: noise, impair, repair."""
        return 3

    def __call__(self, task: Task) -> nn.Module:
        task.needs_gone_classes(self.name)
        sample = self.sample(task)
        noise = [self.noise(task, label) for label in task.forgotten_classes]
        count = min(self.noise_samples, self.impair_samples or self.noise_samples)
        seen = [n.subset(np.tile(np.arange(count), self.repeats)) for n in noise]
        impair = Phase(
            "impair",
            (JoinedSource((sample, *seen)),),
            supervised,
            adam(self.impair_lr),
            self.batch_size,
        )
        repair = Phase("repair", (sample,), supervised, adam(self.repair_lr), self.batch_size)
        repair = replace(repair, steps_per_epoch=self.repair_epochs * repair.steps())
        return task.fit(task.student(), [impair, repair], epochs=1)

    def sample(self, task: Task) -> Source:
        """Up to retain_per_class retain samples of each class."""
        retain = task.needs_retain(self.name)
        labels = retain.labels()
        order = torch.randperm(len(labels), generator=seeds.generator(task.seed, "unsir")).numpy()
        kept = [order[labels[order] == c][: self.retain_per_class] for c in np.unique(labels)]
        return retain.subset(np.sort(np.concatenate(kept)))

    def noise(self, task: Task, label: int) -> TensorSource:
        """Error-maximising inputs of one class, labelled with it.

        Raises:
            Refused: Inputs are no real-valued tensor.
        """
        like = next(task.needs_retain(self.name).batches(1)).inputs
        like = real_valued(like, self.name, why="to make noise of")
        n = self.noise_samples
        start = torch.randn(
            n, *like.shape[1:], generator=seeds.generator(task.seed, "unsir", label)
        )
        # Never in half precision, in which the norms of the penalty overflow.
        noise = start.to(like.device, torch.promote_types(like.dtype, start.dtype))
        # In train mode only batch norms whose parameters could train use the batch's statistics.
        trains = self.noise_norm == "train"
        seen_by = task.student() if trains else task.teacher()
        module = _Noise(seen_by, noise, trains=trains)
        rows = TensorSource(torch.arange(n), torch.full((n,), label))
        phase = Phase(
            "noise",
            (rows,),
            lambda part: -cross_entropy(part.outputs.logits, part.batch.labels),
            adam(self.noise_lr),
            n,
            penalty=lambda *_: self.noise_penalty * module.noise.square().flatten(1).sum(1).mean(),
            steps_per_epoch=self.noise_steps,
            norm=self.noise_norm,
            trains=lambda name: name == "noise",
        )
        layer = None if task.layer is None else f"model.{task.layer}"
        seed = seeds.derive(task.seed, "unsir", label)
        task.fit(module, [phase], epochs=1, seed=seed, layer=layer)
        return TensorSource(module.noise.detach(), rows.targets.to(module.noise.device))


class _Noise(nn.Module):
    """Inputs as the only trainable parameter, seen through a frozen model.

    Args:
        model: Where they go through.
        noise: The inputs.
        trains: Whether the model is in train mode while they are learnt.
    """

    def __init__(self, model: nn.Module, noise: Tensor, *, trains: bool) -> None:
        super().__init__()
        self._trains = trains
        self.noise = nn.Parameter(noise)
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        return logits_of(self.model(self.noise[rows]))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.train(mode and self._trains)
        return self
