"""SCRUB: a student that disobeys its teacher on the forget data and obeys it on the retained data;
and SCRUB+R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pydantic
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Task
from eigenforget.training.losses import cross_entropy, kl_between
from eigenforget.training.phases import (
    LossInputs,
    Momentum,
    Optimizer,
    Phase,
    ScheduleName,
    WeightDecay,
)

Prepare = Callable[[nn.Module, int], None]


@configured
class Scrub:
    """Alternate a max epoch, −KL(teacher ‖ student) on the forget data, and a min epoch, α·KL +
    γ·CE on the retained data.

    The first `msteps` epochs are max, then min; the others min alone. KL is at temperature T with
    the factor T²; the teacher is the frozen original. Max and min keep an optimizer each, and the
    min-only epochs start a new one, to which `schedule` applies.

    rewind=True is SCRUB+R: of the states after each epoch, the one whose forget error is nearest to
    a reference error is the result (the later one of two equally near). The paper takes the error
    of the final model on validation samples distributed as the forget data. A method sees no such
    samples here, so the reference is either `reference_error`, which you measured on data of your
    own, or the final model's error on `held_out` of the retained samples, per class and weighted as
    the forget data, kept out of the min epochs. The original has trained on these, so their error
    tends to be below that of unseen samples. Where a class is forgotten as a whole no retained
    sample is distributed as the forget data, and rewinding without a reference_error is refused.
    """

    name: ClassVar[str] = "scrub"
    source: ClassVar[str] = (
        "Kurmanji, Triantafillou, Hayes, Triantafillou: Towards Unbounded Machine Unlearning, arXiv 2302.09880, SCRUB "
        "and SCRUB+R; deviations: an optimizer per kind of step, a smooth decay of the learning rate, gradient "
        "clipping, the reference of the rewind"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = (
        "trained: msteps × forget + epochs × retain; forward: the same, and the rewind's"
    )
    # The authors' large-scale notebook; its last epoch has the full learning rate.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "cifar10-resnet18": {
            "epochs": 3,
            "msteps": 2,
            "alpha": 0.001,
            "gamma": 0.99,
            "temperature": 4.0,
            "lr": 5e-4,
            "schedule": "constant",
            "clip": 0.0,
            "batch_size": 128,
            "forget_batch_size": 32,
        },
    }

    epochs: Annotated[
        int, Field(ge=1, description="min epochs in all: passes over the retained data")
    ] = 5
    msteps: Annotated[
        int,
        Field(
            ge=1,
            description="first epochs that have a max epoch, a pass over the forget data, before",
        ),
    ] = 3
    alpha: Annotated[float, Field(ge=0, description="weight of KL on the retained data")] = 0.5
    gamma: Annotated[
        float, Field(ge=0, description="weight of the cross-entropy on the retained data")
    ] = 1.0
    temperature: Annotated[float, Field(gt=0, description="softening T in both KL terms")] = 4.0
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.005
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Annotated[
        ScheduleName, Field(description="learning-rate schedule of the min-only epochs")
    ] = "cosine"
    clip: Annotated[float, Field(ge=0, description="gradient-norm limit, 0 for none")] = 20.0
    batch_size: Annotated[int, Field(ge=2, description="retained samples per min step")] = 128
    forget_batch_size: Annotated[int, Field(ge=2, description="forget samples per max step")] = 64
    rewind: Annotated[
        bool,
        Field(description="SCRUB+R: return the epoch with the forget error nearest to a reference"),
    ] = False
    reference_error: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="error rate to rewind to; None measures it on held-out retained samples",
        ),
    ] = None
    held_out: Annotated[
        float,
        Field(gt=0, lt=1, description="share of the retained samples held out for the reference"),
    ] = 0.1

    @pydantic.model_validator(mode="after")
    def _msteps_fit(self) -> Self:
        if self.msteps > self.epochs:
            raise ValueError(f"msteps={self.msteps} must not exceed epochs={self.epochs}")
        return self

    @property
    def rows(self) -> int:
        """Of its log: both phases while the student disobeys, one after."""
        return 2 * self.msteps + max(0, self.epochs - self.msteps)

    def __call__(self, task: Task) -> nn.Module:
        retain, student, states = task.needs_retain(self.name), task.student(), _States(task)
        if not self.rewind:
            self._fit(student, task, retain, None)
            return student
        if self.reference_error is None:
            retain, held_out = _hold_out(retain, task, self.held_out)
        self._fit(student, task, retain, states.keep)
        states.keep(student)
        reference = (
            _error(task, student, held_out)
            if self.reference_error is None
            else self.reference_error
        )
        return states.rewound(student, reference)

    def _fit(self, student: nn.Module, task: Task, retain: Source, prepare: Prepare | None) -> None:
        teachers = (task.teacher(),)
        steady = Optimizer(
            lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, clip=self.clip
        )
        falling = replace(steady, schedule=self.schedule)
        alternating = [
            Phase(
                "forget",
                (task.forget,),
                self._disobey,
                steady,
                self.forget_batch_size,
                teachers,
                prepare,
            ),
            Phase("recover", (retain,), self._obey, steady, self.batch_size, teachers),
        ]
        task.fit(student, alternating, epochs=self.msteps)
        if self.epochs > self.msteps:
            alone = Phase(
                "recover", (retain,), self._obey, falling, self.batch_size, teachers, prepare
            )
            seed = seeds.derive(task.seed, self.name, "min epochs alone")
            task.fit(
                student,
                [alone],
                epochs=self.epochs - self.msteps,
                seed=seed,
                log=lambda row: task.log({**row, "epoch": row["epoch"] + self.msteps}),
            )

    def _disobey(self, part: LossInputs) -> Tensor:
        return -kl_between(part.teachers[0].logits, part.outputs.logits, self.temperature)

    def _obey(self, part: LossInputs) -> Tensor:
        kl = kl_between(part.teachers[0].logits, part.outputs.logits, self.temperature)
        return self.alpha * kl + self.gamma * cross_entropy(part.outputs.logits, part.batch.labels)


class _Weighted(NamedTuple):
    """Samples and the weight [N] of each in an error rate; the weights sum to 1."""

    source: Source
    weights: np.ndarray


class _States:
    """The student's state and forget error after each epoch."""

    def __init__(self, task: Task) -> None:
        self._task, self._untouched, self._kept = (
            task,
            True,
            list[tuple[float, dict[str, Tensor]]](),
        )
        self._forget = _Weighted(task.forget, np.full(len(task.forget), 1 / len(task.forget)))

    def keep(self, model: nn.Module, cycle: int = 0) -> None:
        """Runs before every epoch and once at the end; before the first epoch there is nothing to
        keep.
        """
        if not self._untouched:
            state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            self._kept.append((_error(self._task, model, self._forget), state))
        self._untouched = False

    def rewound(self, model: nn.Module, reference: float) -> nn.Module:
        """The model with the state whose forget error is nearest to the reference; the latest of
        equally near ones.
        """
        _, state = min(reversed(self._kept), key=lambda kept: abs(kept[0] - reference))
        model.load_state_dict(state)
        return model


def _error(task: Task, model: nn.Module, samples: _Weighted) -> float:
    passes = task.engine.forward(model, samples.source, layer=task.layer)
    wrong = [(outputs.logits.argmax(1) != batch.labels).cpu().numpy() for batch, outputs in passes]
    return float(np.concatenate(wrong) @ samples.weights)


def _hold_out(retain: Source, task: Task, share: float) -> tuple[Source, _Weighted]:
    """The retained samples that stay, and held-out ones of each class in the forget data, weighted
    as the classes there.
    """
    labels = retain.labels()
    generator = np.random.default_rng(seeds.derive(task.seed, "scrub", "held out"))
    rows, weights = [], []
    for label, count in zip(*np.unique(task.forget.labels(), return_counts=True), strict=True):
        own = np.flatnonzero(labels == label)
        if len(own) < 2:
            why = (
                f"class {label} of the forget data has {len(own)} retained samples and 2 are needed"
            )
            raise Refused(
                f"scrub(rewind=True) needs held-out samples like the forgotten ones, but {why}; give reference_error"
            )
        held = generator.permutation(own)[: min(len(own) - 1, max(1, round(share * len(own))))]
        rows.append(held)
        weights.append(np.full(len(held), count / len(task.forget) / len(held)))
    chosen = np.concatenate(rows)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return retain.subset(rest), _Weighted(retain.subset(chosen), np.concatenate(weights))
