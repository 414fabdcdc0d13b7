"""Random labels: teach the forget set wrong labels, then repair on the retain set."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import Clip, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase
from eigenforget.training.recipe import supervised


@configured
class RandomLabel(SGDFields, Method):
    """Train the forget set on random labels, and the retain set on its own.

    Labels are uniform over `candidates`. "others" are the classes that are not gone as a whole,
    except the sample's own; "all" is every output, including the sample's own class. Labels are
    drawn once, anew in each epoch, or anew in each batch. The last two have the same distribution,
    since an epoch sees each sample once. By default an epoch on the retain set follows each epoch
    on the forget set.
    """

    name: ClassVar = "random_label"
    source: ClassVar = (
        "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, arXiv 1911.04933; "
        "alternation per epoch as in SalUn, arXiv 2310.12508; deviation of the defaults: never "
        "the own or a forgotten class as label"
    )
    needs: ClassVar = ("forget", "retain (unless retain_steps='none')", "labels")
    passes: ClassVar = "trained: epochs × (forget + retain)"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=3e-4,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=128,
                clip=0.0,
                redraw="never",
                candidates="all",
                retain_steps="none",
                one_optimizer=False,
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "shaaaaron/DELETE, scripts.sh, 049eb0c",
        ),
        "cifar10-resnet18-lotus": PublishedRun(
            dict(
                epochs=10,
                lr=1e-3,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=128,
                clip=0.0,
                redraw="epoch",
                candidates="others",
                retain_steps="after",
                one_optimizer=True,
            ),
            RESNET18,
            CIFAR10,
            "random samples",
            "cspartalis/LoTUS, src/unlearning_methods/naive_unlearning_class.py (relabel), 35ae25e",
        ),
    }

    epochs: Annotated[Count, "passes over the forget set and over the retain set"] = 2
    lr: Annotated[Positive, "SGD learning rate of both"] = 0.02
    clip: Clip = 0.0
    redraw: Annotated[
        Literal["never", "epoch", "batch"], "when the wrong labels are drawn anew"
    ] = "never"
    candidates: Annotated[
        Literal["others", "all"], "labels to draw from: see above; published code takes all"
    ] = "others"
    retain_steps: Annotated[
        Literal["after", "mixed", "none"],
        "retain samples come after each epoch of the forget set, mixed with it, or not at all",
    ] = "after"
    one_optimizer: Annotated[
        bool, "one momentum goes through the steps of both sets; False keeps one for each"
    ] = False

    @property
    def log_rows(self) -> int:
        """Number of log rows: by default each epoch has a forget and a recover phase."""
        return (2 if self.retain_steps == "after" else 1) * self.epochs

    def __call__(self, task: Task) -> nn.Module:
        retain = None if self.retain_steps == "none" else task.needs_retain(self.name)
        wrong = WrongLabels(self, task)

        def forget_loss(part: LossInputs) -> Tensor:
            return cross_entropy(part.outputs.logits, wrong.of(part))

        mixed = retain is not None and self.retain_steps == "mixed"
        source = JoinedSource((task.forget, retain)) if mixed else task.forget  # type: ignore[arg-type]
        optimizer = optimizer_of(self)
        phases = [
            Phase(
                "mixed" if mixed else "forget",
                (source,),
                forget_loss,
                optimizer,
                self.batch_size,
                prepare=wrong.refresh,
            )
        ]
        if retain is not None and not mixed:
            recover = Phase("recover", (retain,), supervised, optimizer, self.batch_size)
            phases.append(replace(recover, continues=self.one_optimizer))
        return task.fit(task.student(), phases, epochs=self.epochs)

    def labels(self, task: Task) -> Tensor:
        """The label [N_f] that each forget sample is given first."""
        return WrongLabels(self, task).table

    def allowed(self, task: Task) -> Tensor:
        """Whether a forget sample may be given a label [N_f, C].

        Raises:
            Refused: A sample has no candidate.
        """
        true = torch.as_tensor(task.forget.labels())
        if self.candidates == "all":
            return torch.ones(len(true), task.num_classes, dtype=torch.bool)
        allowed = torch.zeros(len(true), task.num_classes, dtype=torch.bool)
        allowed[:, list(task.retained_classes)] = True
        allowed[:, list(task.forgotten_classes)] = False
        allowed[torch.arange(len(true)), true] = False
        if not allowed.any(1).all():
            raise Refused("random_label needs a second class that is retained")
        return allowed


class WrongLabels:
    """The labels of the forget set, which are drawn anew as the method says.

    Args:
        method: Says which labels may be drawn, and when.
        task: What to forget.

    Attributes:
        table: The present label [N_f] of each forget sample.
    """

    def __init__(self, method: RandomLabel, task: Task) -> None:
        self._allowed, self._redraw = method.allowed(task), method.redraw
        self._generator = seeds.generator(task.seed, method.name)
        self.table = self._drawn(self._allowed)

    def refresh(self, _: nn.Module, epoch: int) -> None:
        """Draw all labels anew before an epoch other than the first, where that is asked for."""
        if epoch > 0 and self._redraw == "epoch":
            self.table = self._drawn(self._allowed)

    def of(self, part: LossInputs) -> Tensor:
        """The labels [B] to train on: those of retain samples are their own."""
        at = part.batch.positions
        self.table = self.table.to(at.device)  # once: within a step nothing waits for the device
        forget = at < len(self.table)
        if self._redraw == "batch":  # drawn on the processor, for which the device has to wait
            rows = at[forget]
            self.table[rows] = self._drawn(self._allowed[rows.cpu()]).to(at.device)
        wrong = self.table[at.clamp(max=len(self.table) - 1)]
        return torch.where(forget, wrong, part.batch.labels)

    def _drawn(self, allowed: Tensor) -> Tensor:
        return torch.multinomial(allowed.double(), 1, generator=self._generator).squeeze(1)
