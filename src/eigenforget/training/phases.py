"""What an epoch is made of: sources, a loss and an optimizer. `engine.Engine.fit` runs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eigenforget.core.fields import Below1, Between01, NonNegative, Positive
from eigenforget.core.spec import configured
from eigenforget.core.types import Batch, Outputs
from eigenforget.data.sources import Source, steps_in_epoch

ScheduleName = Literal["constant", "cosine", "onecycle", "triangle"]
Schedule = Annotated[ScheduleName, "learning-rate schedule"]
Drops = Annotated[
    tuple[Between01, ...], "shares of all steps after which the learning rate falls to a tenth"
]
Momentum = Annotated[Below1, "SGD momentum"]
Nesterov = Annotated[bool, "Nesterov's momentum; False is the plain one"]
WeightDecay = Annotated[NonNegative, "L2 penalty"]


@configured
class Optimizer:
    """How weights move in one phase; the schedule runs over all steps of that phase."""

    name: ClassVar[str] = "optimizer"
    kind: Annotated[Literal["sgd", "adamw"], "SGD or AdamW"] = "sgd"
    lr: Annotated[Positive, "peak learning rate"] = 0.1
    momentum: Annotated[Below1, "SGD momentum (unused by AdamW)"] = 0.9
    nesterov: Nesterov = True
    weight_decay: Annotated[NonNegative, "decoupled in AdamW, L2 in SGD"] = 5e-4
    schedule: Schedule = "constant"
    drops: Drops = ()
    clip: Annotated[NonNegative, "gradient-norm limit, 0 for none"] = 0.0

    def over(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer over these parameters."""
        if self.kind == "adamw":
            return torch.optim.AdamW(
                parameters, lr=self.lr, weight_decay=self.weight_decay, foreach=True
            )
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov and self.momentum > 0,
            foreach=True,  # on a processor too: the same bits in fewer calls
        )

    def factor(self, step: int, *, steps: int) -> float:
        """Share of the peak learning rate at a step.

        "onecycle" warms up over the first 20 % of the steps and then falls linearly; "triangle"
        rises and falls over a half each.
        """
        done = step / max(1, steps)
        left = 0.1 ** sum(done >= drop for drop in self.drops)
        if self.schedule == "cosine":
            return left * 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "onecycle":
            return left * max(min(done / 0.2, (1 - done) / 0.8), 1e-3)
        if self.schedule == "triangle":
            return left * max(min(done / 0.5, (1 - done) / 0.5), 1e-3)
        return left


class LossInputs(NamedTuple):
    """What a loss sees of one source in one step.

    Attributes:
        batch: The samples [B, ...] with their labels.
        outputs: The model's outputs on them.
        teachers: Each teacher's outputs on them.
    """

    batch: Batch
    outputs: Outputs
    teachers: tuple[Outputs, ...]


@dataclass(frozen=True)
class Phase:
    """One kind of epoch: a pass over the first source, with further sources repeated beside it.

    Attributes:
        name: Stands in the log; the order of batches follows from it and the seed.
        sources: Where batches come from; each step takes one batch of each source.
        loss: loss(*inputs), one LossInputs per source, gives a scalar or values per sample [B].
        optimizer: How weights move. It is the phase's own, for all epochs.
        batch_size: Samples per batch of each source.
        other_batch_size: Samples per batch of the further sources, where that is another number.
        teachers: Models whose outputs the loss sees; they run in eval mode and are not trained.
        prepare: prepare(model, epoch) runs before each epoch; False ends the training there.
        penalty: penalty(model, epoch) is added to the loss.
        on_gradients: Called with the model between backward pass and step.
        after_step: Called with the model after each step.
        norm: Which batch-norm layers update their statistics: with "train" all, with "frozen" none,
            with "trained" those with a parameter that this phase trains. Layers whose parameters
            all have requires_grad=False never do, and none does in batches of one sample.
        trains: Selects parameters by name; None takes all.
        steps_per_epoch: Steps of an epoch, unless it is one pass over the first source. The source
            is read in fresh random order, and starts again when it runs out.
        repeats: Asked as repeats(model, number) before each pass of an epoch, from number 0 on,
            whether it runs; None runs one. A pass has a log row.
        as_one: Whether the batches of a step go through the model together, where their inputs can
            be joined. For models that treat each sample alone this only takes fewer calls.
        normalised_by_last: Whether batch norms that update normalise all samples of a step by those
            of the last source, and take their statistics from these alone; goes with as_one. Where
            inputs cannot be joined, the samples of the other sources meet the running statistics.
        continues: Whether this phase shares its momentum with the phase before it: one optimizer
            for both, at the learning rate of each.
        taught_first: Samples at positions below this number are the first of two teachers', the
            others the second's. Where a step can tell them apart without waiting for the device,
            each teacher sees its own only, and the loss sees one teacher's outputs with those of
            both; else both see all. None: every teacher sees all.
    """

    name: str
    sources: tuple[Source, ...]
    loss: Callable[..., Tensor]
    optimizer: Optimizer
    batch_size: int = 128
    teachers: tuple[nn.Module, ...] = ()
    prepare: Callable[[nn.Module, int], bool | None] | None = None
    penalty: Callable[[nn.Module, int], Tensor] | None = None
    on_gradients: Callable[[nn.Module], None] | None = None
    after_step: Callable[[nn.Module], None] | None = None
    norm: Literal["train", "frozen", "trained"] = "train"
    trains: Callable[[str], bool] | None = None
    steps_per_epoch: int | None = None
    other_batch_size: int | None = None
    repeats: Callable[[nn.Module, int], bool] | None = None
    as_one: bool = False
    normalised_by_last: bool = False
    continues: bool = False
    taught_first: int | None = None

    def steps(self) -> int:
        """Steps of one epoch."""
        return (
            steps_in_epoch(len(self.sources[0]), batch_size=self.batch_size)
            if self.steps_per_epoch is None
            else self.steps_per_epoch
        )

    def batch_sizes(self) -> tuple[int, ...]:
        """Samples per batch of each source."""
        further = self.other_batch_size or self.batch_size
        return (self.batch_size, *[further] * (len(self.sources) - 1))

    def has_lone_samples(self) -> bool:
        """Whether batches that batch norms update by have one sample, and so no variance."""
        sides = list(zip(self.sources, self.batch_sizes(), strict=True))
        normalising = sides[-1:] if self.normalised_by_last else sides
        return any(min(len(source), size) == 1 for source, size in normalising)
