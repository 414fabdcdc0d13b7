"""Two clusters of the two sides: against scikit-learn and an exhaustive search on one axis."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, normalized_mutual_info_score

from eigenforget.evaluation.audits.forget_clusters import ForgetClusters
from eigenforget.evaluation.evidence import PartOutputs
from tests.numerics.shadows import evidence_of


def rows_of(features):
    n = len(features)
    return PartOutputs(np.zeros((n, 2)), features, np.zeros(n, np.int64), np.arange(n))


def parts_of(*, gap, n=80, m=80, seed=0, width=1):
    rng = np.random.default_rng(seed)
    forget = rng.normal(size=(n, width)) + gap
    return {"forget": rows_of(forget), "retain": rows_of(rng.normal(size=(m, width)))}


def best_cut(values):
    """The clusters of the best 2-means of numbers: every cut of the sorted numbers is tried."""
    order = np.sort(values)
    cuts = [
        (order[:i].var() * i + order[i:].var() * (len(order) - i), i) for i in range(1, len(order))
    ]
    return (values >= order[min(cuts)[1]]).astype(int)


@pytest.mark.parametrize("gap", [3.0, 4.0, 8.0])
def test_on_one_axis_it_is_the_best_cut(gap):
    parts = parts_of(gap=gap)
    values = np.concatenate([parts["forget"].features[:, 0], parts["retain"].features[:, 0]])
    sides = np.r_[np.ones(80, int), np.zeros(80, int)]
    clusters = best_cut(values)
    nmi, f1 = ForgetClusters()(evidence_of(parts), seed=0)
    assert nmi.value == pytest.approx(normalized_mutual_info_score(sides, clusters), abs=1e-12)
    best = max(f1_score(sides, clusters), f1_score(sides, 1 - clusters))
    assert f1.value == pytest.approx(best, abs=1e-12)
    assert nmi.low <= nmi.value <= nmi.high and f1.low <= f1.value <= f1.high


def test_sides_that_lie_apart_have_1_and_sides_alike_nearly_0():
    far, far_f1 = ForgetClusters()(evidence_of(parts_of(gap=50.0)), seed=0)
    assert (far.value, far_f1.value) == (1.0, 1.0)
    same, _ = ForgetClusters()(evidence_of(parts_of(gap=0.0, n=400, m=400, width=5)), seed=0)
    assert same.value < 0.02


def test_a_scale_a_shift_and_a_turn_move_nothing_and_the_sides_have_one_size():
    parts = parts_of(gap=1.5, n=60, m=500, width=3)
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))[0]
    moved = {p: r._replace(features=7.0 * r.features @ turn + 3.0) for p, r in parts.items()}
    one, two = (ForgetClusters()(evidence_of(p), seed=0) for p in (parts, moved))
    assert [s.value for s in one] == pytest.approx([s.value for s in two], abs=1e-12)
    capped = ForgetClusters(most=20)(evidence_of(parts), seed=0)
    assert [s.value for s in capped] != [s.value for s in one]


def test_too_few_samples_and_constant_features_are_reasons():
    few = ForgetClusters()(evidence_of(parts_of(gap=1.0, n=9)), seed=0)
    assert {s.value for s in few} == {None} and few[
        0
    ].reason == "needs 10 samples of the forget set, got 9"
    flat = {p: rows_of(np.ones((20, 3))) for p in ("forget", "retain")}
    assert "alike" in ForgetClusters()(evidence_of(flat), seed=0)[0].reason
