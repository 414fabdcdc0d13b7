"""How fast does what was forgotten come back when the model is fine-tuned on a few samples?"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.fields import Count, NonNegative, Positive, TwoOrMore
from eigenforget.core.seeds import derive, torch_state_kept
from eigenforget.core.spec import configured
from eigenforget.core.types import Part, Score
from eigenforget.data.sources import Source, in_memory, unaugmented
from eigenforget.evaluation.audits.linear_probe import stratified_subset
from eigenforget.evaluation.evidence import Evidence, Findings, Reads
from eigenforget.evaluation.metrics.accuracy import (
    Interval,
    interval_of_share,
    missing_share,
    share_score,
)
from eigenforget.evaluation.metrics.panel import no_samples, samples_of
from eigenforget.evaluation.standardiser import Standardiser, standardiser
from eigenforget.models.balance import balance
from eigenforget.models.features import find_head
from eigenforget.requests.splitting import classes_in
from eigenforget.training.engine import Engine
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Momentum, Optimizer, Phase

MIN_TARGET = 10
"""Below this many samples one sample moves the accuracy by more than a tenth."""
REGAINED = 0.95
"""Share of the original's accuracy at which the forget set counts as relearned."""


MAX_SCALED = 2_000
"""Retain samples that are run for the scale of the head's inputs where it is not known."""

Start = Literal["kept", "neutral"]


class Slices(NamedTuple):
    """Which samples are trained and tested on; the two are disjoint.

    Attributes:
        part: The part with the target samples.
        target: Rows of it that are tested on.
        attack: Rows of forget that are trained on.
    """

    part: Part
    target: np.ndarray
    attack: np.ndarray


@configured
class Relearning:
    """`relearn_<n>_auc`, `relearn_steps`: how fast a copy relearns from n forget samples.

    Budgets n: each of `budgets`, and "all" the forget samples; smaller draws are part of larger
    ones. Every step also sees as many retain samples (a stratified draw of n, or all if there are
    fewer), since on forget samples alone a model could win by calling everything the forgotten
    class. Budget "0" is the benign control: only retain samples, as many as in "all".

    Target: test_forget where classes are forgotten, trained on the forget samples of these classes.
    In other requests one half of the forget set (seeded, stratified) is trained on and the other
    half is the target. Target and draws are the same for all models.

    relearn_<n>_auc is the mean of the accuracies after 0, 1, 2, 4, … steps with equal weight, hence
    the area under the curve over log steps, in [0, 1]. relearn_steps counts the steps of budget
    "all" until 95 % of the original's accuracy, linear between grid points. It is at least 1, also
    if the accuracy is there from the start, and not applicable if it is not reached in time. Trace:
    above, and below for the steps.

    From a head bias of −1e4 no step of ordinary size leads back, even if every feature is the
    original's. So if classes are forgotten, an attack with head="best" tries two starts: the head
    as it is ("kept"), and one whose rows of forgotten classes are the mean of the other rows
    ("neutral"). The curve with the larger mean counts; a start that diverges loses. All weights are
    trained, including frozen ones and heads kept as buffers, since an attacker is not bound by such
    marks. Batch-norm statistics stay, since 10 samples would ruin them. The steps are SGD with
    Nesterov momentum. Before them the unit of the features moves into the head (`models.balance`),
    so that a scale or a shift of the features that the head undoes changes no step.

    The interval of relearn_<n>_auc covers the draw of the target samples. It is Wilson's, for as
    many trials as a sample's mean over the grid is worth: from one for each sample to one for each
    sample and grid point. It does not cover the draw of the training samples, which are the same
    for all models: on digits (a class, five draws) it moves relearn_all_auc by 0.003, a tenth of
    the standard error over samples.

    Not applicable: no engine or data, a part missing, fewer than 10 target samples, a budget above
    the forget samples, no linear head, all starts diverged.

    Source: relearn time, arXiv 2201.05629; few samples, arXiv 2405.17878; retain only, arXiv
    2505.22310. Deviations: the second start; retain samples beside; a fixed step grid in place of
    "steps to a margin"; no augmentation (of tensor sources).
    """

    name: ClassVar[str] = "relearning"
    reads: ClassVar[Reads] = "model"
    budgets: Annotated[tuple[Count, ...], "forget samples to relearn from, beside all of them"] = (
        10,
    )
    steps: Annotated[Count, "optimizer steps for each budget"] = 16
    lr: Annotated[Positive, "SGD learning rate"] = 0.01
    momentum: Momentum = 0.9
    batch_size: Annotated[TwoOrMore, "forget samples per step, and as many retain samples"] = 32
    clip: Annotated[
        NonNegative,
        "gradient-norm limit, 0 for none; the first steps on a class that was "
        "never seen may explode",
    ] = 5.0
    max_target: Annotated[
        int, Field(ge=MIN_TARGET), "most target samples, a stratified seeded draw"
    ] = 1000
    head: Annotated[
        Literal["best", "kept", "neutral"],
        "where the head starts: as it is, neutral, or the better of both",
    ] = "best"

    def __call__(self, evidence: Evidence, seed: int) -> Findings:
        """The scores, and the accuracy curves as the series "relearning"."""
        found = self._slices(evidence, derive(seed, self.name))
        if isinstance(found, str):
            return Findings(self._scores(dict.fromkeys(self._budgets(), found), found), {})
        run = _Run(self, evidence, found, derive(seed, self.name))
        # Loaders of datasets draw from the global random state, which is nobody's to move.
        with torch_state_kept():
            right = {name: run.right(n) for name, n in self._budgets().items()}
        curves = {n: r if isinstance(r, str) else r.mean(axis=1).tolist() for n, r in right.items()}
        known = {name: curve for name, curve in curves.items() if not isinstance(curve, str)}
        shown = {
            "steps": self.grid(),
            "curves": {n: [float(f"{v:.6g}") for v in c] for n, c in known.items()},
            "part": found.part,
        }
        return Findings(
            self._scores(right, self._time(evidence, found, curves["all"])),
            {"relearning": shown} if known else {},
        )

    def grid(self) -> list[int]:
        """Steps after which the accuracy is measured: 0, 1, 2, 4, … and the last."""
        return [0, *(2**i for i in range(self.steps.bit_length()) if 2**i < self.steps), self.steps]

    def _budgets(self) -> dict[str, int | None]:
        """Forget samples by name; None stands for all."""
        return {"0": 0, **{str(n): n for n in self.budgets}, "all": None}

    def _slices(self, evidence: Evidence, seed: int) -> Slices | str:
        gone = evidence.forgotten_classes
        part: Part = "test_forget" if gone else "forget"
        missing = [p for p in dict.fromkeys(("forget", "retain", part)) if not evidence.has(p)]
        if missing:
            return "; ".join(map(no_samples, missing))
        if evidence.engine is None or any(
            p not in evidence.sources for p in ("forget", "retain", part)
        ):
            return "needs an engine and the data"
        labels = evidence.parts["forget"].labels
        attack = (
            np.flatnonzero(np.isin(labels, gone))
            if gone
            else stratified_subset(labels, len(labels) // 2, seed=derive(seed, "half"))
        )
        target = np.arange(len(evidence.parts[part].labels))
        target = target if gone else np.setdiff1d(target, attack)
        target = target[
            stratified_subset(
                evidence.parts[part].labels[target], self.max_target, seed=derive(seed, "target")
            )
        ]
        if len(target) < MIN_TARGET or not len(attack):
            other = "" if gone else "other "
            return (
                f"needs {MIN_TARGET} {samples_of(part)} to test on and 1 {other}sample of the "
                f"forget set to train on, got {len(target)} and {len(attack)}"
            )
        return self._head_problem(evidence) or Slices(part, target, attack)

    def _head_problem(self, evidence: Evidence) -> str:
        try:
            name, head = find_head(evidence.model)
        except EigenforgetError as error:
            return str(error)
        own = {
            n
            for n, _ in (*head.named_parameters(recurse=False), *head.named_buffers(recurse=False))
        }
        outputs = evidence.parts["retain"].logits.shape[1]
        only_kept = self.head == "kept" or not evidence.forgotten_classes
        if only_kept or ("weight" in own and head.out_features == outputs):
            return ""
        return (
            f"the last linear layer {name!r} has no weight row for each of the {outputs} "
            "outputs; head='kept' leaves it as it is"
        )

    def _time(self, evidence: Evidence, slices: Slices, curve: list[float] | str) -> float | str:
        """Steps until REGAINED of the original's accuracy, or why there is no number."""
        if isinstance(curve, str):
            return curve
        if evidence.original is None or slices.part not in evidence.original:
            return "needs the original model, whose accuracy is the goal"
        rows = evidence.original[slices.part]
        before = float((rows.logits.argmax(axis=1) == rows.labels)[slices.target].mean())
        if before == 0:
            return f"the original has accuracy 0 on {slices.part}, so there is nothing to relearn"
        reached = crossing(self.grid(), curve, REGAINED * before)
        return f"not reached in {self.steps} steps" if reached is None else max(reached, 1.0)

    def _scores(self, found: Mapping[str, Any], time: float | str) -> tuple[Score, ...]:
        scores = []
        for budget, right in found.items():
            name = f"relearn_{budget}_auc"
            if isinstance(right, str):
                scores.append(missing_share(name, reason=right))
            else:
                area = float(np.mean(right.mean(axis=1).tolist()))
                scores.append(share_score(name, area, area_interval(area, right)))
        value, reason = (None, time) if isinstance(time, str) else (time, "")
        span = (1.0, float(self.steps))
        steps = Score(
            "relearn_steps", value, "steps", "reference", span, reason=reason, trace="below"
        )
        return (*scores, steps)


@dataclass(frozen=True)
class _Run:
    """The fine-tuning runs of one model."""

    settings: Relearning
    evidence: Evidence
    slices: Slices
    seed: int
    first: dict[Start, np.ndarray] = field(default_factory=dict)
    """What is right before any step, which is the same for all budgets."""
    winners: list[Start] = field(default_factory=list)
    """The better start of each budget so far."""

    def right(self, budget: int | None) -> np.ndarray | str:
        """Which target samples are right at each point of the grid, bool [grid, N].

        Or the reason why there is no answer. A budget of None is all forget samples. The start
        that won with the budget before runs as a whole, the other one for as long as it can still
        win: a tie is won by the head as it is.
        """
        attack = self.slices.attack
        n = budget or len(attack)
        if n > len(attack):
            return f"needs {n} forget samples to train on, got {len(attack)}"
        both: tuple[Start, ...] = (
            ("kept", "neutral") if self.settings.head == "best" else (self.settings.head,)
        )
        starts = both if budget != 0 and self.evidence.forgotten_classes else ("kept",)
        sources = self._training(n, benign=budget == 0)
        found: dict[Start, np.ndarray | str] = {}
        for start in sorted(starts, key=lambda start: start not in self.winners[-1:]):
            sums = [int(r.sum()) for r in found.values() if not isinstance(r, str)]
            least = sums[0] + (start != "kept") if sums else 0
            curve = self._from(start, sources, least)
            if curve is not None:
                found[start] = curve
        known = [(s, r) for s in starts if not isinstance(r := found.get(s, ""), str)]
        if not known:
            return found[starts[0]]
        winner, right = max(known, key=lambda pair: pair[1].sum())
        self.winners.append(winner)
        return right

    @cached_property
    def target(self) -> Source:
        """The samples that are looked at; there are up to 27 looks."""
        return in_memory(self._source(self.slices.part, self.slices.target))

    @cached_property
    def unit(self) -> Standardiser:
        """The unit of the head's inputs on the retain set."""
        retain = self.evidence.parts["retain"]
        if self.evidence.layer is None:
            return standardiser(retain.features)
        assert self.evidence.engine is not None  # checked in Relearning._slices
        few = self._source("retain", np.arange(len(retain.labels))[:MAX_SCALED])
        seen = self.evidence.engine.alone().forward(self.evidence.model, few)
        return standardiser(np.concatenate([o.features.cpu().numpy() for _, o in seen]))

    def _from(
        self, start: Start, sources: tuple[Source, ...], least: int
    ) -> np.ndarray | str | None:
        """Which target samples are right; None once fewer than `least` are, whatever follows."""
        settings = self.settings
        assert self.evidence.engine is not None  # checked in Relearning._slices
        engine = self.evidence.engine.alone()
        model = self._attacked(start)
        if start not in self.first:
            self.first[start] = engine.correct(model, self.target)
        watch = _Watch(engine, self.target, settings.grid(), self.first[start], least)
        optimizer = Optimizer(
            lr=settings.lr, momentum=settings.momentum, weight_decay=0.0, clip=settings.clip
        )
        phase = Phase(
            "relearn",
            sources,
            together,
            optimizer,
            settings.batch_size,
            norm="frozen",
            after_step=watch,
            steps_per_epoch=settings.steps,
            as_one=True,
        )
        try:
            watch.stop_if_beaten()
            engine.fit(model, [phase], epochs=1, seed=self.seed)
        except Diverged as error:
            return str(error)
        except _Beaten:
            return None
        return np.stack(watch.right)

    def _attacked(self, start: Start) -> nn.Module:
        """A copy of the model that is ready for an attack."""
        model = attackable(self.evidence.model)
        if start == "neutral":
            kept = classes_in(self.evidence.parts["retain"].labels)
            neutralise(model, self.evidence.forgotten_classes, towards=kept)
        balance(model, torch.from_numpy(self.unit.mean), self.unit.inverse)
        return model

    def _training(self, n: int, *, benign: bool) -> tuple[Source, ...]:
        labels = {part: self.evidence.parts[part].labels for part in ("forget", "retain")}
        retain = self._source(
            "retain", stratified_subset(labels["retain"], n, seed=derive(self.seed, "retain"))
        )
        chosen = self.slices.attack[
            stratified_subset(
                labels["forget"][self.slices.attack], n, seed=derive(self.seed, "forget")
            )
        ]
        return (retain,) if benign else (self._source("forget", chosen), retain)

    def _source(self, part: Part, rows: np.ndarray) -> Source:
        return unaugmented(
            self.evidence.sources[part].subset(self.evidence.parts[part].positions[rows])
        )


class _Beaten(Exception):  # noqa: N818 (no error: another run has won)
    """The run cannot become the best one any more."""


class _Watch:
    """Called after every step: looks which samples of a source are right at steps of the grid.

    Args:
        engine: Runs the model.
        source: The samples.
        grid: Steps after which to look, from 0.
        first: What is right after step 0, bool [N].
        least: Samples that have to be right on the whole grid; the run ends as soon as it cannot
            reach them.
    """

    def __init__(
        self, engine: Engine, source: Source, grid: Sequence[int], first: np.ndarray, least: int
    ) -> None:
        self.engine, self.source, self.grid = engine, source, tuple(grid)
        self.least, self.step = least, 0
        self.right = [first]

    def __call__(self, model: nn.Module) -> None:
        self.step += 1
        if self.step in self.grid:
            self.right.append(self.engine.correct(model, self.source))
            self.stop_if_beaten()

    def stop_if_beaten(self) -> None:
        """Ends the run where even all samples right from now on would be too few.

        Raises:
            _Beaten: That is so.
        """
        left = (len(self.grid) - len(self.right)) * len(self.right[0])
        if sum(int(right.sum()) for right in self.right) + left < self.least:
            raise _Beaten


def area_interval(area: float, right: np.ndarray) -> Interval:
    """95 % interval of the mean of right [grid, N] over new samples, in [0, 1] and around it.

    A sample counts as one trial where it is right always or never, and as one for each grid point
    at most.
    """
    points, n = right.shape
    error = float(right.mean(axis=0).std()) / math.sqrt(n)
    return interval_of_share(area, error=error, trials=n, most=n * points)


def together(*parts: LossInputs) -> Tensor:
    """Cross-entropy of all samples of a step, of whichever source."""
    return torch.cat([cross_entropy(p.outputs.logits, p.batch.labels) for p in parts])


def attackable(model: nn.Module) -> nn.Module:
    """A copy of which every weight is trained.

    Frozen ones are included, and a head's weight that is kept as a buffer.
    """
    attacked = copy.deepcopy(model)
    _, head = find_head(attacked)
    for name, buffer in list(head.named_buffers(recurse=False)):
        if name in ("weight", "bias"):
            delattr(head, name)
            head.register_parameter(name, nn.Parameter(buffer.clone()))
    for parameter in attacked.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return attacked


def neutralise(model: nn.Module, classes: Sequence[int], *, towards: Sequence[int]) -> None:
    """Sets the head's rows of these classes to the mean of the rows of others, in place.

    Weight and bias alike, so that none of them is ever the largest.

    Args:
        model: The model.
        classes: The classes that are gone.
        towards: The classes that were retained. A head may have rows of which there is no sample,
            and which say nothing.
    """
    _, head = find_head(model)
    others = [row for row in towards if row not in classes]
    with torch.no_grad():
        for rows in (head.weight, head.bias):
            if rows is not None:
                rows[list(classes)] = rows[others].mean(dim=0)


def crossing(grid: Sequence[int], curve: Sequence[float], goal: float) -> float | None:
    """The first step at which the curve, linear between the points of the grid, is at the goal.

    None where it never is.
    """
    for i, value in enumerate(curve):
        if value >= goal:
            if i == 0:
                return float(grid[0])
            before = curve[i - 1]
            return grid[i - 1] + (goal - before) / (value - before) * (grid[i] - grid[i - 1])
    return None
