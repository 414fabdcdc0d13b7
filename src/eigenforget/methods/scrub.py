"""SCRUB, a student that disobeys its teacher on the forget set, and SCRUB+R, which rewinds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, NamedTuple, Self

import numpy as np
import pydantic
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Between01, Count, NonNegative, Positive, TwoOrMore, UnitInterval
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import Clip, LearningRate, SGDFields
from eigenforget.methods.published import ALL_CNN, CIFAR10, RESNET18, PublishedRun
from eigenforget.training.losses import cross_entropy, kl_between
from eigenforget.training.phases import LossInputs, Phase, ScheduleName

_Prepare = Callable[[nn.Module, int], None]


@configured
class SCRUB(SGDFields, Method):
    """Alternate a max epoch on the forget set and a min epoch on the retain set.

        max   −KL(teacher ‖ student) on the forget set
        min   α · KL(teacher ‖ student) + γ · CE on the retain set

    In the first `msteps` epochs a max epoch precedes the min epoch; the others are min epochs
    alone. KL is at temperature T with the factor T², and the teacher is the frozen original. Max
    and min steps have an optimizer each, or share one (`one_optimizer`). The min epochs alone start
    a new optimizer, to which `schedule` applies.

    rewind=True is SCRUB+R. Of the states after each epoch, the result is the one whose forget error
    is nearest to a target; of two that are equally near, the later one. The target is
    `target_error` if it is given. Otherwise it is, as in the paper, the error of the final model
    on unseen samples, weighted so that the classes are distributed as in the forget set. Without
    unseen samples it is the error on the share `held_out` of the retain samples, weighted likewise;
    they are kept out of the min epochs. The original was trained on them, so their error tends to
    be below that of unseen samples. If a class is gone as a whole, no retain sample is distributed
    like the forget set, and rewinding without unseen samples or a target_error is refused.
    """

    name: ClassVar = "scrub"
    source: ClassVar = (
        "Kurmanji, Triantafillou, Hayes, Triantafillou: Towards Unbounded Machine Unlearning, "
        "arXiv 2302.09880, SCRUB and SCRUB+R; deviations: the target of the rewind where "
        "there are no unseen samples, a new optimizer for the min epochs alone; of the defaults: "
        "an optimizer per kind of step, a smooth decay of the learning rate, gradient clipping"
    )
    needs: ClassVar = ("forget", "retain", "labels", "unseen samples, or others, for rewind")
    passes: ClassVar = (
        "trained: msteps × forget + epochs × retain; forward: the same, and the rewind's"
    )
    search_space: ClassVar = {"lr": Range(5e-4, 0.05), "alpha": Range(1e-3, 1.0)}
    recipes: ClassVar = {
        "cifar10-resnet18-scrub": PublishedRun(
            dict(
                epochs=5,
                lr=5e-4,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=32,
                msteps=3,
                alpha=0.5,
                gamma=1.0,
                temperature=4.0,
                alone_lr=5e-5,
                clip=0.0,
                forget_batch_size=16,
                one_optimizer=True,
            ),
            RESNET18,
            CIFAR10,
            "100 samples of one class",
            "meghdadk/SCRUB, MIA_experiments.ipynb, 98ffb11",
            "rewind=True with unseen samples is the SCRUB+R of the same notebook",
        ),
        "cifar10-allcnn-scrub": PublishedRun(
            dict(
                epochs=3,
                lr=5e-4,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=256,
                msteps=2,
                alpha=0.001,
                gamma=0.99,
                temperature=4.0,
                alone_lr=None,
                clip=0.0,
                forget_batch_size=512,
                one_optimizer=True,
            ),
            ALL_CNN,
            CIFAR10,
            "one class",
            "meghdadk/SCRUB, large_scale_unlearning.ipynb, 98ffb11",
            "its del_batch_size and sgda_batch_size are read by nothing",
        ),
    }

    epochs: Annotated[Count, "min epochs in all: passes over the retain set"] = 5
    msteps: Annotated[
        Count, "first epochs, before each of which a max epoch passes over the forget set"
    ] = 3
    alpha: Annotated[NonNegative, "weight of KL on the retain set"] = 0.5
    gamma: Annotated[NonNegative, "weight of the cross-entropy on the retain set"] = 1.0
    temperature: Annotated[Positive, "softening T in both KL terms"] = 4.0
    lr: LearningRate = 0.005
    alone_lr: Annotated[Positive | None, "learning rate of the min epochs alone; None takes lr"] = (
        None
    )
    schedule: Annotated[ScheduleName, "learning-rate schedule of the min epochs alone"] = "cosine"
    clip: Clip = 20.0
    batch_size: Annotated[TwoOrMore, "retain samples per min step"] = 128
    forget_batch_size: Annotated[TwoOrMore, "forget samples per max step"] = 64
    one_optimizer: Annotated[
        bool, "one momentum goes through max and min steps; False keeps one for each"
    ] = False
    rewind: Annotated[
        bool, "SCRUB+R: return the epoch with the forget error nearest to a target"
    ] = False
    target_error: Annotated[
        UnitInterval | None,
        "error rate to rewind to; None measures it on unseen samples (see above)",
    ] = None
    held_out: Annotated[
        Between01, "share of the retain samples held out for the target without unseen samples"
    ] = 0.1

    @pydantic.model_validator(mode="after")
    def _msteps_fit(self) -> Self:
        if self.msteps > self.epochs:
            raise ValueError(f"msteps={self.msteps} must not exceed epochs={self.epochs}")
        return self

    @property
    def log_rows(self) -> int:
        """Number of log rows: two per epoch that has a max epoch, one per other epoch."""
        return self.msteps + self.epochs

    def __call__(self, task: Task) -> nn.Module:
        retain, student = task.needs_retain(self.name), task.student()
        if not self.rewind:
            self._fit(student, task, retain, None)
            return student
        states, target = _States(task), self.target_error
        if target is None:
            retain, like_forget = self._like_forget(task, retain)
        self._fit(student, task, retain, states.keep)
        states.keep(student)
        if target is None:
            target = _error(task, student, like_forget)
        student.load_state_dict(states.nearest(target))
        return student

    def _like_forget(self, task: Task, retain: Source) -> tuple[Source, _WeightedLosses]:
        """What is left of the retain set, and samples weighted as the forget set."""
        if task.unseen is None:
            return _hold_out(retain, task, self.held_out)
        labels = task.unseen.labels()
        rows = _rows_by_class(task, labels, 1, "unseen samples")
        return retain, _weighted(task, task.unseen, rows)

    def _fit(
        self, student: nn.Module, task: Task, retain: Source, prepare: _Prepare | None
    ) -> None:
        teachers, steady = (task.teacher(),), optimizer_of(self, schedule="constant")
        disobey = Phase(
            "forget",
            (task.forget,),
            self._disobey,
            steady,
            self.forget_batch_size,
            teachers,
            prepare,
        )
        obey = Phase("recover", (retain,), self._obey, steady, self.batch_size, teachers)
        both = [disobey, replace(obey, continues=self.one_optimizer)]
        task.fit(student, both, epochs=self.msteps)
        if self.epochs > self.msteps:
            optimizer = optimizer_of(self, lr=self.alone_lr or self.lr)
            alone = replace(obey, optimizer=optimizer, prepare=prepare)
            task.fit(
                student,
                [alone],
                epochs=self.epochs - self.msteps,
                seed=seeds.derive(task.seed, self.name, "min epochs alone"),
                log=lambda row: task.log({**row, "epoch": row["epoch"] + self.msteps}),
            )

    def _disobey(self, part: LossInputs) -> Tensor:
        return -kl_between(part.teachers[0].logits, part.outputs.logits, self.temperature)

    def _obey(self, part: LossInputs) -> Tensor:
        kl = kl_between(part.teachers[0].logits, part.outputs.logits, self.temperature)
        return self.alpha * kl + self.gamma * cross_entropy(part.outputs.logits, part.batch.labels)


class _WeightedLosses(NamedTuple):
    """Samples and the weight [N] of each in an error rate; the weights sum to 1."""

    source: Source
    weights: np.ndarray


class _States:
    """The student's state and forget error after each epoch."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._untouched = True
        self._kept: list[tuple[float, dict[str, Tensor]]] = []
        self._forget = _WeightedLosses(task.forget, np.full(len(task.forget), 1 / len(task.forget)))

    def keep(self, model: nn.Module, epoch: int = 0) -> None:  # noqa: ARG002 (prepare is given it)
        """Keep the state; before the first epoch there is nothing to keep."""
        if not self._untouched:
            state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            self._kept.append((_error(self._task, model, self._forget), state))
        self._untouched = False

    def nearest(self, target: float) -> dict[str, Tensor]:
        """The latest of the states whose forget error is nearest to the target."""
        return min(reversed(self._kept), key=lambda kept: abs(kept[0] - target))[1]


def _error(task: Task, model: nn.Module, samples: _WeightedLosses) -> float:
    return float(~task.correct(model, samples.source) @ samples.weights)


def _hold_out(retain: Source, task: Task, share: float) -> tuple[Source, _WeightedLosses]:
    """Split the retain set into what stays and held-out samples weighted as the forget set."""
    labels = retain.labels()
    generator = np.random.default_rng(seeds.derive(task.seed, "scrub", "held out"))
    held = [
        generator.permutation(own)[: min(len(own) - 1, max(1, round(share * len(own))))]
        for own in _rows_by_class(task, labels, 2, "retain samples")
    ]
    rest = np.setdiff1d(np.arange(len(labels)), np.concatenate(held))
    return retain.subset(rest), _weighted(task, retain, held)


def _rows_by_class(task: Task, labels: np.ndarray, least: int, what: str) -> list[np.ndarray]:
    """Positions of the samples of each class of the forget set, in the order of the classes."""
    found = []
    for label in np.unique(task.forget.labels()):
        found.append(np.flatnonzero(labels == label))
        if len(found[-1]) < least:
            raise Refused(
                "scrub(rewind=True) needs samples like the forget set's, but class "
                f"{label} has {len(found[-1])} {what} and {least} are needed; give unseen samples "
                "of each class of the forget set, or target_error"
            )
    return found


def _weighted(task: Task, source: Source, rows: Sequence[np.ndarray]) -> _WeightedLosses:
    """These rows of the source, each class with the weight that it has in the forget set."""
    _, counts = np.unique(task.forget.labels(), return_counts=True)
    shares = [
        np.full(len(own), count / len(task.forget) / len(own))
        for own, count in zip(rows, counts, strict=True)
    ]
    return _WeightedLosses(source.subset(np.concatenate(rows)), np.concatenate(shares))
