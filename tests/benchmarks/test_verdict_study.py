"""The verdict on the models of the committed study, of which the answer is known."""

from __future__ import annotations

import math
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from eigenforget.experiments.bench.scores_file import read_scores_file
from eigenforget.record import RunRecord
from eigenforget.report.verdict import VerdictOutcome
from tests.report_toys import made, score

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import verdict_analysis as analysis  # noqa: E402
import verdict_pages as pages  # noqa: E402

RESULTS = BENCHMARKS / "results" / "verdict_study"
DRAWS = 4
"""The published tables have forty; the bounds below leave room for chance in so few."""


@cache
def studies() -> dict[str, list[RunRecord]]:
    return read_scores_file(RESULTS)


@cache
def judged() -> tuple[analysis.Judged, ...]:
    return tuple(analysis.judge(studies(), draws=DRAWS))


@cache
def far() -> tuple[str, ...]:
    candidates = [analysis.Candidates.of(*item) for item in studies().items()]
    return tuple(c.experiment for c in candidates if analysis.differs(c))


def share(
    group: str, *outcomes: VerdictOutcome, least: int = 1, only: tuple[str, ...] = ()
) -> float:
    of = [
        j
        for j in judged()
        if j.group == group and j.count >= least and (not only or j.experiment in only)
    ]
    found = analysis.rate(of, *outcomes)
    assert found is not None
    return found.value


def test_every_experiment_has_two_dozen_retrained_models_and_every_control() -> None:
    for records in studies().values():
        groups = [analysis.group_of(r) for r in records]
        assert groups.count("oracle") >= 24 and groups.count("original") >= 3
        assert set(analysis.CHEATS) <= set(groups)


def test_retrained_models_are_not_accused() -> None:
    assert share("oracle", "still remembers") <= 0.01
    assert share("oracle", *pages.RETRAINED) >= 0.95


def test_retrained_models_are_recognised_from_five_on_where_features_differ() -> None:
    assert share("oracle", "cannot tell", least=5, only=far()) <= 0.1


@pytest.mark.parametrize("group", [*analysis.CHEATS, "another original"])
def test_originals_copies_and_controls_never_pass(group: str) -> None:
    assert share(group, "like a retrained model") == 0


@pytest.mark.parametrize("group", ["collapse", "swapped rows"])
def test_ruined_models_are_damaged(group: str) -> None:
    assert share(group, "damaged") == 1


def test_originals_are_caught_where_features_differ() -> None:
    assert share("original", "still remembers", least=3, only=far()) >= 0.95


@pytest.mark.parametrize(
    "path", analysis.PATHS, ids=["averages", "part of the forget set", "epochs"]
)
def test_models_between_are_ordered_as_they_lie(path: tuple[str, ...]) -> None:
    shares = [share(group, "still remembers", only=far()) for group in path]
    assert all(after <= before + 0.05 for before, after in pairwise(shares))


def test_the_page_has_a_row_for_every_experiment_and_bound() -> None:
    candidates = [analysis.Candidates.of(*item) for item in studies().items()]
    text = pages.page(candidates, judged())
    assert all(f"| {experiment} |" in text for experiment in studies())
    assert all(bound.text in text for bound in pages.bounds(judged(), far()))


def test_distances_are_in_standard_deviations_of_both_sides() -> None:
    values = {"oracle": (0.0, 2.0), "original": (10.0, 14.0)}
    records = [
        made(f"{group} {i}", group, [score("da", v)], job={"group": group, "seed": i})
        for group, of in values.items()
        for i, v in enumerate(of)
    ]
    found = analysis.distances(analysis.Candidates.of("toy", records))
    assert found["da"] == pytest.approx(11 / math.hypot(math.sqrt(2), math.sqrt(8)))


def test_a_rate_counts_each_model_once_in_its_interval() -> None:
    many = [j for j in judged() if j.group == "original"]
    found = analysis.rate(many, "like a retrained model")
    assert found is not None and found.decisions == len(many)
    assert found.models == len({(j.experiment, j.name) for j in many}) < found.decisions
    assert found.low == 0 < found.high
