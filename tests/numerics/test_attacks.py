"""What attacks share: hits at a false-positive rate by brute force over thresholds, the coverage of
their interval, margins.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import beta, binom, norm
from sklearn.metrics import roc_auc_score, roc_curve

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.metrics.attacks import (
    AttackScores,
    attack_scores_of,
    margins,
    others_needed,
    threshold_attack,
    tpr_interval,
    wins,
)


def brute_tpr(members, others, fpr):
    """The best true-positive rate over all thresholds that let at most the allowed share of others
    through; `>=` is a hit.
    """
    best = 0.0
    for threshold in {*members, *others, math.inf}:
        if sum(o >= threshold for o in others) <= fpr * len(others) + 1e-12:
            best = max(best, sum(m >= threshold for m in members) / len(members))
    return best


@pytest.mark.parametrize("levels", [1, 4, 1000])
@pytest.mark.parametrize(
    ("n", "fpr"), [(100, 0.01), (199, 0.01), (350, 0.01), (40, 0.1), (30, 0.01)]
)
def test_hits_are_the_best_over_all_thresholds_with_ties_as_false_positives(n, fpr, levels):
    rng = np.random.default_rng(n + levels)
    members, others = (
        np.round(rng.normal(shift, 1, size) * levels) / levels
        for shift, size in ((1.5, 60), (0, n))
    )
    assert threshold_attack(members=members, others=others, fpr=fpr) == brute_tpr(
        members, others, fpr
    )


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    st.lists(st.integers(-3, 3), min_size=1, max_size=25),
    st.floats(0.01, 0.9),
)
def test_hits_of_any_few_integers(members, others, fpr):
    found = threshold_attack(
        members=np.array(members, dtype=float), others=np.array(others, dtype=float), fpr=fpr
    )
    assert found == brute_tpr(members, others, fpr)


def test_hits_are_on_scikit_learns_curve():
    rng = np.random.default_rng(0)
    members, others = rng.normal(1, 1, 300), rng.normal(0, 1, 1234)
    fprs, tprs, _ = roc_curve(
        np.r_[np.ones(300), np.zeros(1234)], np.r_[members, others], drop_intermediate=False
    )
    for fpr in (0.001, 0.01, 0.1):
        assert threshold_attack(members=members, others=others, fpr=fpr) == tprs[fprs <= fpr].max()


@pytest.mark.parametrize(
    ("fpr", "n", "allowed"), [(0.29, 100, 29), (0.01, 2900, 29), (0.001, 1000, 1), (0.01, 199, 1)]
)
def test_the_allowance_is_not_lost_to_rounding(fpr, n, allowed):
    others = np.arange(n, dtype=float)
    assert threshold_attack(members=np.array([n - allowed - 0.5]), others=others, fpr=fpr) == 1.0
    assert threshold_attack(members=np.array([n - allowed - 1.0]), others=others, fpr=fpr) == 0.0


@pytest.mark.parametrize(("fpr", "needed"), [(0.01, 100), (0.001, 1000), (0.3, 4)])
def test_how_many_others_are_needed(fpr, needed):
    assert others_needed(fpr) == needed


def test_the_interval_joins_the_order_statistics_of_the_threshold_with_clopper_and_pearson():
    rng = np.random.default_rng(1)
    m, n, fpr = 80, 900, 0.01
    members, others = rng.normal(1.5, 1, m), np.sort(rng.normal(0, 1, n))[::-1]
    # Binomial(900, 0.01): the fewest and most others above the true threshold, by their definition
    # as quantiles.
    above = np.cumsum([binom.pmf(k, n, fpr) for k in range(60)])
    fewest, most = int(np.argmax(above >= 0.0125)), int(np.argmax(above >= 0.9875))
    at_low, at_high = ((members > others[k]).sum() for k in (fewest - 1, most))
    expected = beta.ppf(0.0125, at_low, m - at_low + 1), beta.ppf(0.9875, at_high + 1, m - at_high)
    np.testing.assert_allclose(
        tpr_interval(members=members, others=others, fpr=fpr), expected, rtol=1e-10
    )


@pytest.mark.parametrize(("n", "fpr"), [(100, 0.01), (600, 0.01), (5000, 0.001)])
def test_the_interval_covers_the_true_rate_of_two_gaussians_and_holds_the_estimate(n, fpr):
    true = norm.sf(norm.isf(fpr) - 1.5)
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        members, others = rng.normal(1.5, 1, 150), rng.normal(0, 1, n)
        low, high = tpr_interval(members=members, others=others, fpr=fpr)
        assert 0 <= low <= threshold_attack(members=members, others=others, fpr=fpr) <= high <= 1
        covered += low <= true <= high
    assert covered >= 95


def test_few_others_bound_the_rate_from_above_only():
    low, high = tpr_interval(members=np.arange(50.0) + 1000, others=np.arange(100.0), fpr=0.01)
    assert (low, high) == (0.0, 1.0), "the true threshold may lie above all of 100 others"
    low, high = tpr_interval(members=np.arange(50.0) + 1000, others=np.arange(600.0), fpr=0.01)
    assert low > 0.9 and high == 1.0
    low, high = tpr_interval(members=np.zeros(50), others=np.zeros(600), fpr=0.01)
    assert low == 0.0 and 0 < high < 0.1, "all tied: nothing found, and 50 members bound it"


def test_three_scores_with_their_needs():
    rng = np.random.default_rng(2)
    members, others = rng.normal(1, 1, 40), rng.normal(0, 1, 150)
    auc, tpr, rare = attack_scores_of(
        "x", AttackScores(members, others, ("members (forget)", "non-members (test_forget)"))
    )
    assert (auc.name, tpr.name, rare.name) == ("x_auc", "x_tpr_1", "x_tpr_01")
    assert (auc.unit, tpr.unit, rare.unit) == ("AUC", "share", "share") and {
        auc.trace,
        tpr.trace,
        rare.trace,
    } == {"above"}
    assert auc.value == pytest.approx(
        roc_auc_score(np.r_[np.ones(40), np.zeros(150)], np.r_[members, others]), rel=1e-12
    )
    assert tpr.value == brute_tpr(members, others, 0.01) and tpr.low <= tpr.value <= tpr.high
    assert (
        rare.value is None
        and rare.reason
        == "needs 10 members (forget) and 1000 non-members (test_forget), got 40 and 150"
    )
    assert [s.value for s in attack_scores_of("x", AttackScores(members[:9], others))] == [None] * 3


def test_wins_are_counted_on_both_sides():
    members, others = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    found = wins(members=members, others=others)
    assert found.members.tolist() == [2.0, 1.0, 1.5] and found.others.tolist() == [1.5, 3.0]


def test_margins_are_the_log_odds_of_the_label():
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(30, 5)).astype(np.float32) * 3, rng.integers(0, 5, 30)
    p = softmax(logits.astype(np.float64), axis=1)[np.arange(30), labels]
    found = margins(logits, labels, "forget")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-9, atol=1e-12)
    assert margins(np.array([[1e4, -1e4, -1e4]]), np.array([0]), "forget")[0] == pytest.approx(
        2e4 - math.log(2), rel=1e-14
    )


def test_errors():
    with pytest.raises(EigenforgetError, match="samples on both sides"):
        threshold_attack(members=np.ones(3), others=np.ones(0), fpr=0.1)
    with pytest.raises(EigenforgetError, match="0 < fpr < 1"):
        tpr_interval(members=np.ones(3), others=np.ones(3), fpr=1.0)
    with pytest.raises(EigenforgetError, match="part retain: a logit is not finite"):
        margins(np.array([[0.0, np.inf]]), np.array([0]), "retain")
    with pytest.raises(EigenforgetError, match="part retain: a margin needs 2 classes"):
        margins(np.zeros((3, 1)), np.zeros(3, dtype=int), "retain")
