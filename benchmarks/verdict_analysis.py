"""What the verdict says of models of which the answer is known, from their scores alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from eigenforget.record import RunRecord
from eigenforget.report.decision import Decision, Estimate, ReferenceScores, decide

Outcome = Literal["like a retrained model", "cannot tell", "still remembers", "damaged"]
OUTCOMES: tuple[Outcome, ...] = (
    "like a retrained model",
    "cannot tell",
    "still remembers",
    "damaged",
)
COUNTS = (1, 2, 3, 5, 8)
"""Numbers of retrained models that are drawn."""

HELD_OUT = 8
"""Retrained models that are judged in each draw, of those that were not drawn."""

HARDLY = ("digits, a random tenth",)
"""Settings in which original and retrained models hardly differ; the verdict should say so."""

CHEATS = ("original", "noisy copy", "head_mask", "head_distill", "collapse", "swapped rows")
"""Groups of models that must never pass where original and retrained models differ."""

Scores = Mapping[str, Estimate]


class Judged(NamedTuple):
    """One decision of the study.

    Attributes:
        setting: Data and request.
        count: How many retrained models it was compared with.
        draw: Number of the draw.
        group: What the model is.
        name: Which model it is.
        outcome: What was said of it.
        decision: Why.
    """

    setting: str
    count: int
    draw: int
    group: str
    name: str
    outcome: Outcome
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
    """The measured models of a setting: their scores by group and name, and ranges of scores."""

    setting: str
    scores: Mapping[str, Mapping[str, Scores]]
    spans: Mapping[str, tuple[float | None, float | None]]

    @classmethod
    def of(cls, setting: str, records: Sequence[RunRecord]) -> Candidates:
        """Those of the records that have a result."""
        found: dict[str, dict[str, Scores]] = defaultdict(dict)
        for r in records:
            if r.scores:
                found[group_of(r)][r.name] = estimates(r)
        return cls(setting, found, {s.name: s.range for r in records for s in r.scores})


def outcome_of(decision: Decision) -> Outcome:
    """The four outcomes in one word each."""
    if decision.forgot.answer == "no":
        return "still remembers"
    if decision.kept.answer == "no":
        return "damaged"
    if decision.forgot.answer == decision.kept.answer == "yes":
        return "like a retrained model"
    return "cannot tell"


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
        studies: Records by setting.
        draws: Draws for each number of retrained models.
        counts: Numbers of retrained models.
    """
    return [
        found
        for number, (setting, records) in enumerate(studies.items())
        for candidates in [Candidates.of(setting, records)]
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
    beside = ReferenceScores(
        "class" if "test_forget_accuracy" in originals[own] else "samples",
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
        yield Judged(candidates.setting, count, draw, group, name, outcome_of(found), found)


def seed_of(name: str) -> int:
    """The training seed of a model."""
    return int(name.rpartition(" ")[2])


def rate(judged: Sequence[Judged], *outcomes: Outcome) -> Rate | None:
    """How often these outcomes came up; None where nothing was judged."""
    if not judged:
        return None
    value = sum(j.outcome in outcomes for j in judged) / len(judged)
    models = len({(j.setting, j.name) for j in judged})
    spread = value * (1 - value) / models
    z = float(stats.norm.ppf(0.975))
    centre = (value + z**2 / (2 * models)) / (1 + z**2 / models)
    half = z / (1 + z**2 / models) * np.sqrt(spread + z**2 / (4 * models**2))
    return Rate(value, max(0.0, centre - half), min(1.0, centre + half), models, len(judged))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 0.1 or 0.9 < share < 1 else f"{100 * share:.0f}"
