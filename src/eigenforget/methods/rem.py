"""REM: send what is corrupted through units beside the model, and drop these units."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from eigenforget.core import seeds
from eigenforget.core.fields import Count, Positive, UnitInterval, UpTo1
from eigenforget.core.spec import configured
from eigenforget.core.types import Batch
from eigenforget.data.sources import JoinedSource, Source
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET9, PublishedRun
from eigenforget.models.features import called_with, logits_of
from eigenforget.models.side_units import Masks, SideUnits, WideModel
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase, Schedule


@configured
class REM(SGDFields, Method):
    """Train on all data, the corrupted part of it through units that are dropped afterwards.

    The forget set holds the known part of the corrupted data; the rest of them is in the retain
    set. Each inner layer gets units beside it (see `SideUnits`), random at first. Each retain
    sample always goes through the same random `share` of them. All samples of the forget set go
    through one common share, which therefore learns what they have in common. With the model alone
    θ, with the units θ⁺, the frozen widened original θ⁺₀, and d(θ) = CE(θ) − CE(θ⁺₀) of a sample,
    an epoch consists of

        remove     −2/β log σ(β d(θ)) on the forget set, again and again while the accuracy of the
                   model alone on it is above `floor` (negative preference optimisation)
        redirect    2/β log σ(β d(θ⁺)) on all data, and remove on the forget samples among them

    The result is the model alone after the best epoch. That is the one with the largest (accuracy
    on the retain set) × (1 − max(accuracy on the forget set, floor)), or the last one if none beats
    the original.
    """

    name: ClassVar = "rem"
    source: ClassVar = (
        "Schoepf et al.: Redirection for Erasing Memory (REM): Towards a universal unlearning "
        "method for corrupted data, ICLR 2026, arXiv 2505.17730, algorithm 1, as in the authors' "
        "code; deviation: units stand beside each layer of any model (there the channels of a "
        "ResNet-9 and a ViT are doubled)"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = (
        "trained: epochs × 2 × (forget + retain) + up to removals × epochs × forget; forward: the "
        "same for the original, and epochs × retain + each look × forget for accuracies"
    )
    search_space: ClassVar = {"lr": Range(1e-4, 0.1)}
    recipes: ClassVar = {
        "cifar10-resnet9-rem": PublishedRun(
            dict(
                epochs=10,
                removals=100,
                lr=0.005,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=512,
                floor=0.2,
                capacity=1.0,
                share=0.2,
                beta=1.0,
            ),
            RESNET9,
            CIFAR10,
            "100 to 1,000 of 1,000 corrupted samples",
            "if-loops/rem, rem/experiments_run.sh and rem/src/config.py, 05f36dd",
            "980 steps there, ten passes; the ResNet-9 has half of its channels before",
        ),
    }

    epochs: Annotated[Count, "passes over all data"] = 10
    removals: Annotated[Count, "passes over the forget set before each of these, at most"] = 100
    lr: LearningRate = 0.005
    schedule: Schedule = "constant"
    floor: Annotated[
        UnitInterval, "accuracy of the model alone on the forget set at which removal stops"
    ] = 0.2
    capacity: Annotated[Positive, "units beside a layer, as a share of its channels"] = 1.0
    share: Annotated[UpTo1, "share of the units that a sample goes through"] = 0.2
    beta: Annotated[Positive, "β: how sharply a loss is held against the original's"] = 1.0

    def __call__(self, task: Task) -> nn.Module:
        retain, student = task.needs_retain(self.name), task.student()
        side = SideUnits(
            student,
            capacity=self.capacity,
            seed=seeds.derive(task.seed, self.name, "units"),
            method=self.name,
        )
        masks = Masks(
            sum(side.sizes),
            shared=len(task.forget),
            others=len(retain),
            share=self.share,
            seed=seeds.derive(task.seed, self.name),
        )
        # Each process computes all by itself: passes beside the engine's share no gradients.
        own = replace(task, engine=task.engine.alone())
        run = _Run(self, own, WideModel(side, student), masks)
        remove, redirect = self._phases(task, retain, run)
        own.fit(
            run.student,
            [remove, redirect],
            epochs=self.epochs,
            layer=None if task.layer is None else f"model.{task.layer}",
            log=lambda row: task.log(row) if row["phase"] == redirect.name else None,
        )
        return run.best()

    def _phases(self, task: Task, retain: Source, run: _Run) -> tuple[Phase, Phase]:
        """Removal, which repeats until little is left, and then an epoch of all samples."""
        remove = Phase(
            "remove",
            (task.forget,),
            run.remove,
            optimizer_of(self, schedule="constant"),
            self.batch_size,
            repeats=run.has_to_remove,
        )
        redirect = Phase(
            "redirect",
            (JoinedSource((task.forget, retain)),),
            run.redirect,
            optimizer_of(self),
            self.batch_size,
            continues=True,
        )
        return remove, redirect


class _Run:
    """One training: its losses, the removal before each epoch, and the best state so far."""

    def __init__(self, method: REM, task: Task, student: WideModel, masks: Masks) -> None:
        self._method, self._task, self._masks = method, task, masks
        self._retain = task.needs_retain(method.name)
        self.student = student
        self._original = copy.deepcopy(student).eval().requires_grad_(False)
        task.engine.placed(self._original)
        self._known = len(task.forget)
        self._most = self._worth()
        self._state: dict[str, Tensor] | None = None
        self._begun = False

    def redirect(self, part: LossInputs) -> Tensor:
        """The loss [B] of a batch of all data."""
        with torch.no_grad():
            before = self._widened(self._original, part.batch)
        beside = self._widened(self.student, part.batch)
        self._task.engine.meter.count(trained=len(beside), forwarded=len(beside))
        alone = cross_entropy(part.outputs.logits, part.batch.labels)
        known = (part.batch.positions < self._known).to(alone)
        return self._preference(beside - before) - known * self._preference(alone - before)

    def remove(self, part: LossInputs) -> Tensor:
        """The loss [B] of a batch of the forget set."""
        with torch.no_grad():
            before = self._widened(self._original, part.batch)
        self._task.engine.meter.count(forwarded=len(before))
        alone = cross_entropy(part.outputs.logits, part.batch.labels)
        return -self._preference(alone - before)

    def has_to_remove(self, _: nn.Module, passes: int) -> bool:
        """Whether the model alone is still too accurate on the forget set, after so many passes.

        Before the first pass of an epoch the state that the epoch before left is noted.
        """
        if passes == 0 and self._begun:
            self._note()
        self._begun = True
        known = self._accuracy(self._task.forget)
        return passes < self._method.removals and known > self._method.floor

    def best(self) -> nn.Module:
        """The model alone in the best state, that after the last epoch included."""
        self._note()
        if self._state is not None:
            self.student.model.load_state_dict(self._state)
        return self.student.model.eval()

    def _note(self) -> None:
        worth = self._worth()
        if worth > self._most:
            self._most = worth
            self._state = copy.deepcopy(self.student.model.state_dict())

    def _worth(self) -> float:
        forgets = max(self._accuracy(self._task.forget), self._method.floor)
        return self._accuracy(self._retain) * (1 - forgets)

    def _accuracy(self, source: Source) -> float:
        return float(self._task.correct(self.student.model, source).mean())

    def _preference(self, difference: Tensor) -> Tensor:
        beta = self._method.beta
        return logsigmoid(beta * difference) * 2 / beta

    def _widened(self, widened: WideModel, batch: Batch) -> Tensor:
        """Cross-entropy [B] of the model with the units that each sample goes through."""
        mask = self._masks.of(batch.positions)
        inputs = self._task.engine.formatted(batch.inputs, widened.model)
        with self._task.engine.local.autocast(), widened.side.beside(widened.model, mask):
            logits = logits_of(called_with(widened.model, inputs))
        return cross_entropy(logits.float(), batch.labels)
