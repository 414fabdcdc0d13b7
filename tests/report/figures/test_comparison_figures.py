"""Ranks, their agreement and the Pareto front against loops by hand; what draws nothing; training
traces and confusion matrices.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import comparison_figures as comparison
from eigenforget.report.table import build
from tests.report_toys import ROLES, SCORES, made, score, whole

ORACLES = [
    made(f"o{i}", "oracle", [score("da", v), score("own", 10 * v, (0.0, None))])
    for i, v in enumerate((0.5, 0.6, 0.7))
]


def judged(**values: tuple[float | None, ...]) -> list[RunRecord]:
    """Unlearned models beside three retrained ones: (da, own) by name."""
    rows = {
        n: [score(s, v, (0.0, None)) for s, v in zip(("da", "own"), vs, strict=False)]
        for n, vs in values.items()
    }
    return [*ORACLES, *(made(name, "unlearned", scores) for name, scores in rows.items())]


# --- ranks ---


def brute_ranks(distances: list[float]) -> list[float]:
    """1 + how many are nearer + half of those as near, without itself."""
    return [
        1 + sum(e < d for e in distances) + (sum(e == d for e in distances) - 1) / 2
        for d in distances
    ]


def brute_tau(one: list[float], other: list[float]) -> float:
    """(concordant − discordant) / √(pairs not tied in one · pairs not tied in the other)."""
    signs = [
        ((a > b) - (a < b), (c > d) - (c < d))
        for (a, c), (b, d) in combinations(zip(one, other, strict=True), 2)
    ]
    total = sum(s * t for s, t in signs)
    return total / math.sqrt(sum(s != 0 for s, _ in signs) * sum(t != 0 for _, t in signs))


def test_ranks_and_tau_are_those_of_loops() -> None:
    records = whole()
    found, table = comparison.ranking(records), build(records)
    judged_models = [n for n, role in ROLES.items() if role in ("unlearned", "control")]
    assert list(found.models) == judged_models and set(found.metrics) == set(SCORES)
    for metric, line in zip(found.metrics, found.ranks, strict=True):
        values = {r.name: s.value for r in records for s in r.scores if s.name == metric}
        mean = np.mean([values[n] for n, role in ROLES.items() if role == "oracle"])
        assert line == brute_ranks([abs(values[n] - mean) for n in judged_models]), metric  # type: ignore[operator]
    tau = comparison.tau_matrix(found.ranks)
    for i, one in enumerate(found.ranks):
        for j, other in enumerate(found.ranks):
            assert tau[i][j] == pytest.approx(brute_tau(one, other), abs=1e-6)  # type: ignore[arg-type]
    assert len(table.rows) == len(ROLES) and any(
        t is not None and t < 0 for line in tau for t in line
    )


@pytest.mark.parametrize("seed", range(5))
def test_agreement_counts_ties_and_leaves_out_what_only_one_side_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (
        [
            None if hole else float(v)
            for v, hole in zip(rng.integers(1, 4, 9), rng.random(9) < 0.2, strict=True)
        ]
        for _ in "ab"
    )
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    tau = comparison.tau_matrix([one, other])
    assert (
        tau[0][1]
        == tau[1][0]
        == pytest.approx(brute_tau([a for a, _ in both], [b for _, b in both]), abs=1e-6)
    )
    assert tau[0][0] == 1


def test_what_cannot_agree_is_empty() -> None:
    tied, full, few = [2.0, 2.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, None]
    assert comparison.tau_matrix([tied, full, few]) == [
        [None] * 3,
        [None, 1.0, None],
        [None] * 3,
    ]


def test_models_as_far_on_either_side_are_tied_whatever_the_last_bit() -> None:
    # The mean is 0.6 and 6: 0.4 and 0.8 are as far, 0.6 is nearest; 0.7 and 0.5 share the places 2
    # and 3.
    records = judged(
        low=(0.4, 9.0), high=(0.8, 3.0), mid=(0.6, 6.0), near=(0.7, None), other=(0.5, 5.0)
    )
    found = comparison.ranking(records)
    assert found.models == ("low", "high", "mid", "near", "other")
    assert dict(zip(found.metrics, found.ranks, strict=True)) == {
        "da": [4.5, 4.5, 1, 2.5, 2.5],
        "own": [3.5, 3.5, 1, None, 2],
    }
    fig = comparison.ranks_figure(records)
    assert [list(t) for t in fig.texts] == [
        ["4.5", "4.5", "1", "2.5", "2.5"],
        ["3.5", "3.5", "1", "", "2"],
    ]
    assert fig.steps[1][3] is None and fig.steps[0][2] == 10
    assert "mid is nearest" in comparison.ranks_reading(records)
    assert "2 of 2 scores" in comparison.ranks_reading(records)


def test_without_a_band_the_gap_ranks() -> None:
    records = [ORACLES[0], *judged(a=(0.9,), b=(0.45,), c=(0.2,))[3:]]
    assert all(cell.units is None for row in build(records).rows for cell in row.cells.values())
    assert comparison.ranking(records).ranks == [[3, 1, 2]]


def test_ranks_take_three_unlearned_models_and_a_retrained_one() -> None:
    three = judged(a=(0.9, 1.0), b=(0.4, 2.0), c=(0.2, 3.0))
    assert comparison.can_rank(three) and comparison.can_compare(three)
    for records in (
        three[:-1],
        three[3:],
        [*three[:-1], replace(three[-1], role="control")],
        [*three[:-1], replace(three[-1], scores=())],
    ):
        assert not comparison.can_rank(records) and not comparison.can_compare(records)
        with pytest.raises(RecordError, match="3 unlearned models and a retrained one"):
            comparison.ranks_figure(records)
        with pytest.raises(
            RecordError, match="takes two of them, 3 unlearned models and a retrained one"
        ):
            comparison.agreement_figure(records)
    one_score = judged(a=(0.9,), b=(0.4,), c=(0.2,))
    assert comparison.can_rank(one_score) and not comparison.can_compare(one_score)


def test_layers_are_not_ranked_and_cells_hold_the_numbers() -> None:
    records = whole()
    assert not any("@" in name for name in comparison.ranking(records).metrics)
    fig = comparison.agreement_figure(records)
    assert fig.texts[0][0] == "1.0" and len(fig.steps) == len(SCORES) == len(fig.columns)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_tau_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, 5, 12).astype(float).tolist() for _ in "ab")
    assert comparison.tau_matrix([one, other])[0][1] == pytest.approx(
        stats.kendalltau(one, other, variant="b").statistic, abs=1e-6
    )
    records = judged(**{f"m{i}": (0.6 + v / 10, v) for i, v in enumerate(one)})
    assert comparison.ranking(records).ranks[0] == stats.rankdata(one).tolist()


# --- cost against quality ---


def brute_front(points: list[tuple[float, float]]) -> list[int]:
    kept = []
    for i, (cost, loss) in enumerate(points):
        beaten = False
        for other_cost, other_loss in points:
            as_good = other_cost <= cost and other_loss <= loss
            better = other_cost < cost or other_loss < loss
            beaten = beaten or (as_good and better)
        if not beaten:
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_that_of_all_comparisons(seed: int) -> None:
    # Whole numbers from few, so that there are ties in cost, in loss and in both.
    points = [(float(a), float(b)) for a, b in np.random.default_rng(seed).integers(0, 6, (12, 2))]
    assert comparison.pareto_front(points) == brute_front(points)


def test_equal_points_stand_on_the_front_together() -> None:
    assert (
        comparison.pareto_front([(1, 2), (1, 2), (1, 3), (2, 2), (0, 5)]) == [0, 1, 4]
        and comparison.pareto_front([]) == []
    )


def dot(fig: Any, name: str) -> Any:
    return next(t for t in fig.plots[0].traces if t.name == name)


def test_costs_and_qualities_by_hand() -> None:
    records = whole()
    fig = comparison.pareto_figure(records)
    units = {
        row.model: [c.units for n, c in row.cells.items() if "@" not in n]
        for row in build(records).rows
    }
    for i, name in enumerate(ROLES):
        if name == "original":
            continue
        far = dot(fig, name)
        assert far.x == pytest.approx((1.0 if ROLES[name] == "oracle" else (1 + 3 * i) / 100,))
        assert far.y[0] == pytest.approx(
            np.mean([min(abs(u), comparison.CLIP) for u in units[name]])
        )
    assert fig.plots[0].x.log and not any(t.name == "original" for t in fig.plots[0].traces)
    dots = [dot(fig, n) for n, role in ROLES.items() if role == "unlearned"]
    front = brute_front([(d.x[0], d.y[0]) for d in dots])
    line = dot(fig, "Pareto front")
    places = sorted((dots[i].x[0], dots[i].y[0]) for i in front)
    assert list(zip(line.x, line.y, strict=True)) == places
    assert [d.style.size > 10 for d in dots] == [i in front for i in range(len(dots))]
    mask = dot(fig, "mask").style
    assert mask.symbol.endswith("-open") and mask.size < 10
    nearest = min(dots, key=lambda d: d.y[0])
    assert f"{nearest.name} is the unlearned model nearest" in comparison.pareto_reading(records)


def test_what_a_method_trains_on_does_not_count_for_it() -> None:
    records = whole()
    one = next(r for r in records if r.name == "one")
    own = replace(one, job={"method": {"spec": "one()", "optimises": ["da"]}})
    fig = comparison.pareto_figure([own if r is one else r for r in records])
    units = {
        n: c.units
        for row in build(records).rows
        if row.model == "one"
        for n, c in row.cells.items()
        if "@" not in n and n != "da"
    }
    far = np.mean([min(abs(u), comparison.CLIP) for u in units.values()])  # type: ignore[arg-type]
    assert dot(fig, "one").y[0] == pytest.approx(far)
    assert f"of {len(SCORES) - 1} scores" in dot(fig, "one").texts[0]
    assert f"of {len(SCORES)} scores" in dot(fig, "two").texts[0]


def test_unknown_costs_are_left_out_and_never_nothing() -> None:
    records = whole()

    def with_cost(name: str, seconds: float, **cost: Any) -> list[RunRecord]:
        return [
            replace(r, outcome=replace(r.outcome, seconds=seconds, cost=cost))
            if r.name == name
            else r
            for r in records
        ]

    fig = comparison.pareto_figure(with_cost("one", 0.0))
    names = {t.name for t in fig.plots[0].traces}
    assert "one" not in names and "two" in names
    # Without the processor time of a retrained model all are compared by wall time: 6 s of a mean
    # of (60 + 60 + 30) / 3.
    assert dot(comparison.pareto_figure(with_cost("oracle 2", 30.0)), "one").x[0] == pytest.approx(
        6 / 50
    )
    bare = [replace(r, outcome=replace(r.outcome, seconds=0.0, cost={})) for r in records]
    elsewhere = [replace(r, environment={"device": r.name}) for r in records]
    no_bands = [r for r in records if r.name not in ("oracle 2", "oracle 3")]
    for made_up in (bare, elsewhere, no_bands, [r for r in records if r.role != "unlearned"]):
        assert not comparison.has_costs(made_up)
        with pytest.raises(
            RecordError, match="no unlearned model has both a cost and scores with a band"
        ):
            comparison.pareto_figure(made_up)
    assert comparison.has_costs(records)


# --- traces and confusion matrices ---
