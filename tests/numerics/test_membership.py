"""The population attack: AUC by brute-force pairs, scikit-learn and closed form; DeLong by loops and bootstrap."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, multivariate_normal, norm
from sklearn.metrics import roc_auc_score

from eigenforget.metrics.membership import Delong, PopulationMIA, attack_scores, auc_interval, delong
from eigenforget.types import Batch, EigenforgetError, Outputs


def slow_delong(x, y):
    """AUC and variance from the m × n matrix of wins, looped; DeLong et al. 1988."""
    psi = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x]
    m, n = len(x), len(y)
    auc = sum(map(sum, psi)) / (m * n)
    v10 = [sum(row) / n for row in psi]
    v01 = [sum(psi[i][j] for i in range(m)) / m for j in range(n)]
    s10 = sum((v - auc) ** 2 for v in v10) / (m - 1)
    s01 = sum((v - auc) ** 2 for v in v01) / (n - 1)
    return auc, s10 / m + s01 / n


def tied(rng, n, shift, levels):
    return np.round(rng.normal(shift, 1, n) * levels) / levels


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize(("m", "n"), [(2, 2), (10, 37), (60, 25)])
def test_delong_is_the_loop_over_all_pairs(m, n, levels):
    rng = np.random.default_rng(m + levels)
    x, y = tied(rng, m, 0.7, levels), tied(rng, n, 0, levels)
    found = delong(members=x, others=y)
    np.testing.assert_allclose(found, slow_delong(x, y), rtol=1e-12, atol=1e-15)
    truth = np.r_[np.ones(m), np.zeros(n)]
    np.testing.assert_allclose(found.auc, roc_auc_score(truth, np.r_[x, y]), rtol=1e-12)


def test_minus_infinity_is_the_lowest_score_and_ties_with_itself():
    x, y = np.array([-np.inf, 1.0, 2.0]), np.array([-np.inf, -np.inf, 1.5])
    np.testing.assert_allclose(delong(members=x, others=y), slow_delong(x, y), rtol=1e-14)


def test_delong_does_not_depend_on_the_order_by_a_single_bit():
    rng = np.random.default_rng(5)
    x, y = tied(rng, 300, 0.3, 50), tied(rng, 211, 0, 50)
    assert delong(members=x, others=y) == delong(members=rng.permutation(x), others=rng.permutation(y))


def test_of_two_gaussians_auc_and_variance_are_those_in_closed_form():
    rng = np.random.default_rng(0)
    d, n = 0.8, 20_000
    found = delong(members=rng.normal(d, 1, n), others=rng.normal(0, 1, n))
    auc = norm.cdf(d / math.sqrt(2))
    # By symmetry each side's component is Φ(X) with X ~ N(d, 1); E Φ(X)² is a bivariate normal probability.
    second = multivariate_normal([0, 0], [[2, 1], [1, 2]]).cdf([d, d])
    assert found.variance == pytest.approx(2 * (second - auc**2) / n, rel=0.03)
    assert abs(found.auc - auc) < 4 * math.sqrt(found.variance)


def test_the_standard_error_is_near_a_bootstraps():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.8, 1, 80), rng.normal(0, 1.5, 120)
    wins = x[:, None] > y[None, :]
    boot = [wins[rng.integers(0, 80, 80)][:, rng.integers(0, 120, 120)].mean() for _ in range(4000)]
    assert math.sqrt(delong(members=x, others=y).variance) == pytest.approx(np.std(boot), rel=0.08)


def test_the_interval_is_symmetric_and_cut_to_the_unit_interval():
    assert auc_interval(Delong(0.6, 0.01), m=20, n=20) == pytest.approx((0.6 - 0.1959964, 0.6 + 0.1959964), abs=1e-6)
    assert auc_interval(Delong(0.95, 0.01), m=20, n=20).high == 1.0
    assert auc_interval(Delong(0.05, 0.01), m=20, n=20).low == 0.0


@pytest.mark.parametrize(("auc", "wins"), [(1.0, 20), (0.0, 0), (0.5, 10)])
def test_where_the_variance_is_zero_the_interval_is_wilsons_for_the_smaller_side(auc, wins):
    expected = binomtest(wins, 20).proportion_ci(method="wilson")
    np.testing.assert_allclose(auc_interval(Delong(auc, 0.0), m=35, n=20), (expected.low, expected.high), atol=1e-12)


def test_no_overlap_and_all_ties_have_variance_exactly_zero():
    assert delong(members=np.arange(13.0) + 100, others=np.arange(11.0)) == (1.0, 0.0)
    assert delong(members=np.full(13, 0.1), others=np.full(11, 0.1)) == (0.5, 0.0)


def test_attack_scores_are_the_log_probability_of_the_label_and_the_largest_probability():
    rng = np.random.default_rng(2)
    logits = (rng.normal(size=(9, 4)) * 5).astype(np.float32)
    labels = rng.integers(0, 4, 9)
    found = attack_scores(torch.as_tensor(logits), torch.as_tensor(labels))
    assert found.dtype == torch.float64
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(found[:, 0], log_softmax(wide, axis=1)[np.arange(9), labels], rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], softmax(wide, axis=1).max(axis=1), rtol=1e-12)


def samples(n, seed, signal, classes=(0, 1, 2)):
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes)[torch.randint(len(classes), (n,), generator=g)]
    return torch.randn(n, 3, generator=g) + signal * torch.eye(3)[labels], labels


def feed(metric, part, logits, labels, rows=None):
    rows = torch.arange(len(labels)) if rows is None else rows
    metric.update(part, Batch(None, labels[rows], rows), Outputs(logits[rows], torch.zeros(len(rows), 0)))


def expected_auc(members, others):
    truth = np.r_[np.ones(len(members[1])), np.zeros(len(others[1]))]
    logits, labels = (torch.cat([a, b]).numpy() for a, b in zip(members, others, strict=True))
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    own = log_p[np.arange(len(labels)), labels]
    return roc_auc_score(truth, own), roc_auc_score(truth, np.exp(log_p.max(axis=1)))


def test_random_requests_compare_forget_with_test_retain():
    members, others = samples(60, 0, 2.0), samples(50, 1, 1.0)
    metric = PopulationMIA(forgotten_classes=())
    feed(metric, "forget", *members)
    feed(metric, "retain", *samples(30, 2, 9.0))
    feed(metric, "test_retain", *others)
    loss, confidence = metric.scores()
    assert (loss.name, confidence.name) == ("mia_auc", "mia_confidence_auc")
    np.testing.assert_allclose((loss.value, confidence.value), expected_auc(members, others), rtol=1e-12)
    assert loss.better == "reference" and loss.range == (0.0, 1.0)
    variance = slow_delong(*(attack_scores(*side)[:, 0].tolist() for side in (members, others)))[1]
    half = 1.959963984540054 * math.sqrt(variance)
    np.testing.assert_allclose((loss.low, loss.high), (loss.value - half, min(loss.value + half, 1)), rtol=1e-10)


def test_requests_without_a_class_prefer_test_forget_where_it_was_seen():
    members, others = samples(40, 0, 2.0), samples(30, 1, 1.0)
    metric = PopulationMIA(forgotten_classes=())
    feed(metric, "forget", *members)
    feed(metric, "test_forget", *others)
    feed(metric, "test_retain", *samples(25, 3, -9.0))
    np.testing.assert_allclose([s.value for s in metric.scores()], expected_auc(members, others), rtol=1e-12)


def test_class_requests_compare_members_of_the_class_with_unseen_images_of_the_class():
    members, others = samples(40, 0, 2.0, classes=(1,)), samples(30, 1, 1.0, classes=(1,))
    metric = PopulationMIA(forgotten_classes=(1,))
    feed(metric, "forget", *members)
    feed(metric, "forget", *samples(25, 2, 9.0, classes=(0, 2)))  # a mixed request: left out of the comparison
    feed(metric, "test_forget", *others)
    feed(metric, "test_retain", *samples(25, 3, -9.0, classes=(0, 2)))
    found = [s.value for s in metric.scores()]
    np.testing.assert_allclose(found, expected_auc(members, others), rtol=1e-12)


def test_a_class_request_without_test_forget_is_not_compared_with_other_classes():
    metric = PopulationMIA(forgotten_classes=(1,))
    feed(metric, "forget", *samples(40, 0, 2.0, classes=(1,)))
    feed(metric, "test_retain", *samples(40, 1, 2.0, classes=(0, 2)))
    assert [s.value for s in metric.scores()] == [None, None]
    assert "test_forget" in metric.scores()[0].reason and "40 and 0" in metric.scores()[0].reason


@pytest.mark.parametrize(("m", "n", "measured"), [(9, 10, False), (10, 9, False), (10, 10, True), (0, 0, False)])
def test_fewer_than_ten_on_a_side_is_not_applicable(m, n, measured):
    metric = PopulationMIA(forgotten_classes=())
    feed(metric, "retain", *samples(10, 2, 1.0))
    feed(metric, "forget", *samples(m, 0, 1.0))
    feed(metric, "test_retain", *samples(n, 1, 1.0))
    for score in metric.scores():
        assert (score.value is not None) == measured
        assert measured or f"got {m} and {n}" in score.reason


def test_shuffles_batches_and_shards_give_the_one_pass_result_bit_for_bit():
    members, others = samples(103, 0, 2.0), samples(89, 1, 1.0)
    whole, shards = PopulationMIA(()), [PopulationMIA(()) for _ in range(3)]
    for part, (logits, labels) in (("forget", members), ("test_retain", others)):
        feed(whole, part, logits, labels)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
        for i, rows in enumerate(order.split(10)):
            feed(shards[i % 3], part, logits, labels, rows)
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert shards[0].scores() == whole.scores()


def test_every_state_of_a_rank_can_be_gathered_after_any_part():
    metric = PopulationMIA(())
    feed(metric, "retain", *samples(5, 0, 1.0))
    for state in (metric.members, metric.unseen_forget, metric.unseen_retain):
        assert [(s.dtype, s.shape) for s in state] == [(torch.float64, (0, 2))]


def test_errors():
    with pytest.raises(EigenforgetError, match="2 samples on each side, got 1 and 3"):
        delong(members=np.ones(1), others=np.ones(3))
    with pytest.raises(EigenforgetError, match="part forget: a logit is"):
        feed(PopulationMIA(()), "forget", torch.tensor([[torch.inf, 0.0]]), torch.tensor([0]))
    with pytest.raises(EigenforgetError, match="NaN"):
        feed(PopulationMIA(()), "forget", torch.tensor([[torch.nan, 0.0]]), torch.tensor([0]))
