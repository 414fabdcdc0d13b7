"""What the verdict says of models of which the answer is known, from their scores alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from eigenforget.record import RunRecord
from eigenforget.report.decision import (
    FEATURE_SCORES,
    FORGET_SCORES,
    KEEP_SCORES,
    ComparisonScores,
    Decision,
    Estimate,
    RequestKind,
    decide,
)
from eigenforget.report.table import build
from eigenforget.report.verdict import VerdictOutcome, outcome_of, verdict_on

COUNTS = (1, 2, 3, 5, 8)
"""Numbers of retrained models that are drawn."""

HELD_OUT = 8
"""Retrained models that are judged in each draw, of those that were not drawn."""

FAR = 4.0
"""Original and retrained models differ where a score of features lies this many standard
deviations apart: without that, "cannot tell" is the right answer."""

CHEATS = ("original", "noisy copy", "head_mask", "head_distill", "collapse", "swapped rows")
"""Groups of models that must never pass."""

PATHS = (
    ("original", "average 0.25", "average 0.50", "average 0.75", "strong"),
    ("original", "retrained with 75%", "retrained with 50%", "retrained with 25%", "oracle"),
    ("original", "finetune 1", "finetune 4", "finetune 16"),
)
"""Models that lie between original and retrained ones, or further and further from the original."""

Scores = Mapping[str, Estimate]


class Judged(NamedTuple):
    """One decision of the study.

    Attributes:
        experiment: Data and request.
        count: How many retrained models it was compared with.
        draw: Number of the draw.
        group: What the model is.
        name: Which model it is.
        outcome: What was said of it.
        decision: Why.
    """

    experiment: str
    count: int
    draw: int
    group: str
    name: str
    outcome: VerdictOutcome
    decision: Decision


class Rate(NamedTuple):
    """How often an outcome came up, with a 95 % interval.

    Decisions on one model in several draws are not independent, so the interval (Wilson's) counts
    each model once.
    """

    value: float
    low: float
    high: float
    models: int
    decisions: int

    def __str__(self) -> str:
        return f"{_percent(self.value)} ({_percent(self.low)}–{_percent(self.high)})"


class Candidates(NamedTuple):
    """The measured models of an experiment: their scores by group and name, and ranges of scores."""

    experiment: str
    scores: Mapping[str, Mapping[str, Scores]]
    spans: Mapping[str, tuple[float | None, float | None]]

    @classmethod
    def of(cls, experiment: str, records: Sequence[RunRecord]) -> Candidates:
        """Those of the records that have a result."""
        found: dict[str, dict[str, Scores]] = defaultdict(dict)
        for r in records:
            if r.scores:
                found[group_of(r)][r.name] = estimates(r)
        return cls(experiment, found, {s.name: s.range for r in records for s in r.scores})

    @property
    def kind(self) -> RequestKind:
        """Whether whole classes are forgotten."""
        scores = next(iter(self.scores["original"].values()))
        return "class" if "test_forget_accuracy" in scores else "samples"

    @property
    def decision_scores(self) -> tuple[str, ...]:
        """What the verdict rests on."""
        return (*FORGET_SCORES[self.kind], *KEEP_SCORES)


def estimates(record: RunRecord) -> Scores:
    """Scores with their intervals."""
    return {s.name: Estimate(s.value, s.low, s.high) for s in record.scores if s.value is not None}


def group_of(record: RunRecord) -> str:
    """What the model is."""
    return str(record.job["group"])


def judge(
    studies: Mapping[str, Sequence[RunRecord]], *, draws: int = 40, counts: Sequence[int] = COUNTS
) -> list[Judged]:
    """Every model beside seeded draws of retrained models and one original.

    Each draw takes one original, and judges what was made from it, itself, another original and
    retrained models that were not drawn.

    Args:
        studies: Records by experiment.
        draws: Draws for each number of retrained models.
        counts: Numbers of retrained models.
    """
    return [
        found
        for number, (experiment, records) in enumerate(studies.items())
        for candidates in [Candidates.of(experiment, records)]
        for count in counts
        for draw in range(draws)
        for found in _judged(candidates, number, count, draw)
    ]


def _judged(candidates: Candidates, number: int, count: int, draw: int) -> Iterator[Judged]:
    rng = np.random.default_rng([number, count, draw])
    scores = dict(candidates.scores)
    oracles, originals = scores.pop("oracle"), scores.pop("original")
    order = [str(name) for name in rng.permutation(sorted(oracles))]
    seeds = sorted({seed_of(name) for of in scores.values() for name in of})
    own = f"original {(seed := seeds[draw % len(seeds)])}"
    others = [name for name in originals if name != own]
    beside = ComparisonScores(
        candidates.kind,
        [oracles[name] for name in order[:count]],
        [originals[own]],
        candidates.spans,
    )
    models = [
        *(("oracle", name, oracles[name]) for name in order[count : count + HELD_OUT]),
        ("original", own, originals[own]),
        ("another original", name := others[draw % len(others)], originals[name]),
        *(
            (g, name, found)
            for g, of in scores.items()
            for name, found in of.items()
            if seed_of(name) == seed
        ),
    ]
    for group, name, model in models:
        found = decide(model, beside)
        yield Judged(candidates.experiment, count, draw, group, name, outcome_of(found), found)


def seed_of(name: str) -> int:
    """The training seed of a model."""
    return int(name.rpartition(" ")[2])


def distances(candidates: Candidates) -> dict[str, float]:
    """How far originals and retrained models are apart by each score, in standard deviations.

    The variances of both add. It is infinite where all models of a kind are equal.
    """
    found = {}
    scores = candidates.scores
    for name in candidates.spans:
        sides = [
            [s[name].value for s in scores[g].values() if name in s] for g in ("oracle", "original")
        ]
        if all(len(values) > 1 for values in sides):
            gap = abs(float(np.mean(sides[0]) - np.mean(sides[1])))
            spread = float(np.hypot(*(np.std(values, ddof=1) for values in sides)))
            found[name] = gap / spread if spread else math.inf if gap else 0.0
    return found


def differs(candidates: Candidates) -> bool:
    """Whether a decision score of features tells originals from retrained models."""
    found = distances(candidates)
    own = [name for name in candidates.decision_scores if name in FEATURE_SCORES]
    return max(found.get(name, 0.0) for name in own) >= FAR


def rate(judged: Sequence[Judged], *outcomes: VerdictOutcome) -> Rate | None:
    """How often these outcomes came up; None where nothing was judged."""
    if not judged:
        return None
    value = sum(j.outcome in outcomes for j in judged) / len(judged)
    models = len({(j.experiment, j.name) for j in judged})
    low, high = stats.binomtest(round(value * models), models).proportion_ci(method="wilson")
    return Rate(value, min(low, value), max(high, value), models, len(judged))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 0.1 or 0.9 < share < 1 else f"{100 * share:.0f}"


class Published(NamedTuple):
    """A published model, and what is said of it now.

    Attributes:
        study: Path of its scores, experiment and training seed.
        name: Its name there.
        role: Its role there; an oracle is judged beside the others of its study.
        outcome: What is said of it.
    """

    study: str
    name: str
    role: str
    outcome: VerdictOutcome


def judge_published(study: str, records: Sequence[RunRecord]) -> Iterator[Published]:
    """Every published model of a study, and each oracle beside the others."""
    table = build(records)
    oracles = sum(row.has_result for row in table.of_role("oracle"))
    for row in table.of_role("oracle", "unlearned", "control"):
        if row.has_result and (row.role != "oracle" or oracles >= 3):
            yield Published(study, row.model, row.role, verdict_on(row, table).outcome)
