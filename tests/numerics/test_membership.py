"""The population attack: AUC by brute-force pairs, scikit-learn and closed form; DeLong by loops
and bootstrap.
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, multivariate_normal, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics import membership
from eigenforget.evaluation.metrics.attacks import (
    AttackScores,
    Delong,
    auc_interval,
    delong,
    threshold_attack,
)
from eigenforget.evaluation.metrics.membership import (
    PopulationMIA,
    attack_scores,
    forget_rate,
    logistic_auc,
)
from eigenforget.evaluation.metrics.panel import too_few

NAMES = [
    "mia_auc",
    "mia_confidence_auc",
    "mia_entropy_auc",
    "mia_modified_entropy_auc",
    "mia_tpr_1",
    "mia_tpr_01",
    "mia_logistic_auc",
    "mia_forget_rate",
]


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
    assert delong(members=x, others=y) == delong(
        members=rng.permutation(x), others=rng.permutation(y)
    )


def test_of_two_gaussians_auc_and_variance_are_those_in_closed_form():
    rng = np.random.default_rng(0)
    d, n = 0.8, 20_000
    found = delong(members=rng.normal(d, 1, n), others=rng.normal(0, 1, n))
    auc = norm.cdf(d / math.sqrt(2))
    # By symmetry each side's component is Φ(X) with X ~ N(d, 1); E Φ(X)² is a bivariate normal
    # probability.
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
    assert auc_interval(Delong(0.6, 0.01), m=20, n=20) == pytest.approx(
        (0.6 - 0.1959964, 0.6 + 0.1959964), abs=1e-6
    )
    assert auc_interval(Delong(0.95, 0.01), m=20, n=20).high == 1.0
    assert auc_interval(Delong(0.05, 0.01), m=20, n=20).low == 0.0


@pytest.mark.parametrize(("auc", "wins"), [(1.0, 20), (0.0, 0), (0.5, 10)])
def test_where_the_variance_is_zero_the_interval_is_wilsons_for_the_smaller_side(auc, wins):
    expected = binomtest(wins, 20).proportion_ci(method="wilson")
    np.testing.assert_allclose(
        auc_interval(Delong(auc, 0.0), m=35, n=20), (expected.low, expected.high), atol=1e-12
    )


def test_no_overlap_and_all_ties_have_variance_exactly_zero():
    assert delong(members=np.arange(13.0) + 100, others=np.arange(11.0)) == (1.0, 0.0)
    assert delong(members=np.full(13, 0.1), others=np.full(11, 0.1)) == (0.5, 0.0)


def slow_scores(logits, labels):
    """[B, 4] in float64 by loops over the definitions, where no probability rounds to 0 or 1."""
    wide = np.asarray(logits, dtype=np.float64)
    rows = []
    for log_p, p, y in zip(
        log_softmax(wide, axis=1), softmax(wide, axis=1), np.asarray(labels), strict=True
    ):
        entropy = -sum(q * math.log(q) for q in p)
        modified = -(1 - p[y]) * math.log(p[y]) - sum(
            q * math.log(1 - q) for i, q in enumerate(p) if i != y
        )
        rows.append([log_p[y], max(p), -entropy, -modified])
    return np.array(rows)


def test_attack_scores_are_their_definitions():
    rng = np.random.default_rng(2)
    logits = (rng.normal(size=(40, 4)) * 3).astype(np.float32)
    labels = rng.integers(0, 4, 40)
    found = attack_scores(torch.as_tensor(logits), torch.as_tensor(labels))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, slow_scores(logits, labels), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("label", "loss"), [(0, 0.0), (1, 2e4)])
def test_attack_scores_of_logits_of_ten_thousand_are_finite_and_right(label, loss):
    found = attack_scores(torch.tensor([[1e4, -1e4, -1e4]]), torch.tensor([label]))[0]
    # Sure and right: nothing is uncertain. Sure and wrong: the loss once for p_y → 0, and −log(1 −
    # p) of the wrong class.
    expected = [-loss, 1.0, 0.0, -2 * loss + (math.log(2) if loss else 0.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def by_hand(sides, seed):
    """Out-of-fold log-odds in a loop, with the standardisation and the weights of the classes
    written out.
    """
    rows = np.concatenate([np.array(sorted(map(tuple, side))) for side in sides[:2]])
    y = np.r_[np.ones(len(sides.members)), np.zeros(len(sides.others))]
    odds = np.empty(len(y))
    for fit, test in StratifiedKFold(
        5, shuffle=True, random_state=derive(seed, "mia_logistic") % 2**32
    ).split(rows, y):
        mean, std = rows[fit].mean(axis=0), rows[fit].std(axis=0)
        weight = np.where(
            y[fit] == 1, len(fit) / 2 / y[fit].sum(), len(fit) / 2 / (1 - y[fit]).sum()
        )
        model = LogisticRegression(max_iter=1000).fit(
            (rows[fit] - mean) / std, y[fit], sample_weight=weight
        )
        odds[test] = (rows[test] - mean) / std @ model.coef_[0] + model.intercept_[0]
    return roc_auc_score(y, odds)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_logistic_attack_is_the_loop_over_folds_in_any_order_of_the_samples(seed):
    rng = np.random.default_rng(3)
    sides = AttackScores(rng.normal(size=(40, 4)) + 0.5, rng.normal(size=(70, 4)))
    found = logistic_auc(sides, seed)
    assert found.value == pytest.approx(by_hand(sides, seed), abs=1e-3)
    assert (
        logistic_auc(
            AttackScores(rng.permutation(sides.members), rng.permutation(sides.others)), seed
        )
        == found
    )


def test_the_logistic_attack_finds_what_no_single_score_shows():
    rng = np.random.default_rng(4)
    level = rng.normal(size=400) * 3
    rows = np.stack(
        [level, level + np.r_[np.full(200, 0.5), np.zeros(200)], *rng.normal(size=(2, 400))], axis=1
    )
    assert max(delong(members=rows[:200, i], others=rows[200:, i]).auc for i in range(4)) < 0.6
    assert logistic_auc(AttackScores(rows[:200], rows[200:]), 0).value > 0.95


def test_constant_scores_are_nothing_to_fit():
    same = np.ones((30, 4))
    assert "nothing to fit" in logistic_auc(AttackScores(same, same), 0).reason
    assert (
        "nothing to fit"
        in forget_rate(forget=same[:, :1], retain=same[:, :1], others=same[:, :1]).reason
    )


def test_the_forget_rate_is_the_share_on_the_members_side_of_the_fitted_line():
    rng = np.random.default_rng(5)
    retain, others, forget = (
        -rng.gamma(k, size=(n, 1)) for k, n in ((1.0, 300), (3.0, 80), (2.0, 120))
    )
    rows, y = np.concatenate([retain, others]), np.r_[np.ones(300), np.zeros(80)]
    model = LogisticRegression(class_weight="balanced").fit((rows - rows.mean()) / rows.std(), y)
    border = rows.mean() - rows.std() * model.intercept_[0] / model.coef_[0, 0]
    found = forget_rate(forget=forget, retain=retain, others=others)
    assert (
        found.value == float((forget > border).mean())
        and 0 < found.low < found.value < found.high < 1
    )
    assert forget_rate(forget=forget * 0 - 1e4, retain=retain, others=others).value == 0.0, (
        "wrong predictions fool it"
    )


def samples(n, seed, signal, classes=(0, 1, 2)):
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes)[torch.randint(len(classes), (n,), generator=g)]
    return torch.randn(n, 3, generator=g) + signal * torch.eye(3)[labels], labels


def feed(metric, part, logits, labels, rows=None):
    rows = torch.arange(len(labels)) if rows is None else rows
    metric.update(
        part, Batch(None, labels[rows], rows), Outputs(logits[rows], torch.zeros(len(rows), 0))
    )


def expected_aucs(members, others):
    truth = np.r_[np.ones(len(members[1])), np.zeros(len(others[1]))]
    scores = np.concatenate([slow_scores(*members), slow_scores(*others)])
    return [roc_auc_score(truth, scores[:, i]) for i in range(4)]


def test_random_requests_compare_forget_with_test_retain():
    members, others = samples(60, 0, 2.0), samples(150, 1, 1.0)
    metric = PopulationMIA(forgotten_classes=())
    feed(metric, "forget", *members)
    feed(metric, "retain", *samples(30, 2, 9.0))
    feed(metric, "test_retain", *others)
    found = metric.scores()
    assert [s.name for s in found] == NAMES
    assert all((s.better, s.range, s.trace) == ("reference", (0.0, 1.0), "above") for s in found)
    assert [s.unit for s in found] == ["AUC"] * 4 + ["share"] * 2 + ["AUC", "share"]
    np.testing.assert_allclose(
        [s.value for s in found[:4]], expected_aucs(members, others), rtol=1e-12
    )
    losses = [attack_scores(*side)[:, 0].numpy() for side in (members, others)]
    assert found[4].value == threshold_attack(members=losses[0], others=losses[1], fpr=0.01)
    assert (
        found[5].value is None
        and "1000 non-members (test samples of retained classes), got 60 and 150" in found[5].reason
    )
    half = 1.959963984540054 * math.sqrt(slow_delong(*losses)[1])
    loss = found[0]
    np.testing.assert_allclose(
        (loss.low, loss.high), (loss.value - half, min(loss.value + half, 1)), rtol=1e-10
    )


def test_requests_without_a_class_prefer_test_forget_where_it_was_seen():
    members, others = samples(40, 0, 2.0), samples(30, 1, 1.0)
    metric = PopulationMIA(forgotten_classes=())
    feed(metric, "forget", *members)
    feed(metric, "test_forget", *others)
    feed(metric, "test_retain", *samples(25, 3, -9.0))
    np.testing.assert_allclose(
        [s.value for s in metric.scores()[:4]], expected_aucs(members, others), rtol=1e-12
    )


def test_class_requests_compare_members_of_the_class_with_unseen_images_of_the_class():
    members, others = samples(40, 0, 2.0, classes=(1,)), samples(30, 1, 1.0, classes=(1,))
    retain, held = samples(90, 4, 3.0, classes=(0, 2)), samples(25, 3, 1.0, classes=(0, 2))
    also = samples(
        25, 2, 5.0, classes=(0, 2)
    )  # a mixed request: left out of the comparison, but part of the forget set
    metric = PopulationMIA(forgotten_classes=(1,))
    for part, rows in (
        ("forget", members),
        ("forget", also),
        ("test_forget", others),
        ("retain", retain),
        ("test_retain", held),
    ):
        feed(metric, part, *rows)
    found = {s.name: s for s in metric.scores()}
    np.testing.assert_allclose(
        [found[name].value for name in NAMES[:4]], expected_aucs(members, others), rtol=1e-12
    )
    own = [attack_scores(*rows)[:, :1].numpy() for rows in (members, also, retain, held)]
    expected = forget_rate(forget=np.concatenate(own[:2]), retain=own[2], others=own[3])
    assert found["mia_forget_rate"] == expected and expected.value is not None


def test_a_class_request_without_test_forget_is_not_compared_with_other_classes():
    metric = PopulationMIA(forgotten_classes=(1,))
    feed(metric, "forget", *samples(40, 0, 2.0, classes=(1,)))
    feed(metric, "test_retain", *samples(40, 1, 2.0, classes=(0, 2)))
    assert [s.value for s in metric.scores()] == [None] * 8
    first, *_, last = (score.reason for score in metric.scores())
    assert "test samples of forgotten classes" in first and first.endswith("got 40 and 0")
    assert last == "there are no samples of the retain set"


@pytest.mark.parametrize(
    ("m", "n", "measured"), [(9, 10, False), (10, 9, False), (10, 10, True), (0, 0, False)]
)
def test_fewer_than_ten_on_a_side_is_not_applicable(m, n, measured):
    metric = PopulationMIA(forgotten_classes=())
    feed(metric, "retain", *samples(10, 2, 1.0))
    feed(metric, "forget", *samples(m, 0, 1.0))
    feed(metric, "test_retain", *samples(n, 1, 1.0))
    for score in metric.scores():
        if "tpr" not in score.name:
            assert (score.value is not None) == measured
            few = too_few(forget=m, test_retain=n)
            assert measured or score.reason == few or f"got {m} and {n}" in score.reason


def test_shuffles_batches_and_shards_give_the_one_pass_result_bit_for_bit(monkeypatch):
    monkeypatch.setattr(membership, "MAX_RETAIN", 60)
    parts = {
        "forget": samples(103, 0, 2.0),
        "test_retain": samples(139, 1, 1.0),
        "retain": samples(200, 2, 3.0),
    }
    whole, shards = PopulationMIA(()), [PopulationMIA(()) for _ in range(3)]
    for part, (logits, labels) in parts.items():
        feed(whole, part, logits, labels)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
        for i, rows in enumerate(order.split(10)):
            feed(shards[i % 3], part, logits, labels, rows)
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert len(whole._retain()) == 60 and shards[0].scores() == whole.scores()
    other = PopulationMIA((), seed=1)
    feed(other, "retain", *parts["retain"])
    assert sorted(other._retain()) != sorted(whole._retain()), "another seed, another draw"


def test_every_state_of_a_rank_can_be_gathered_after_any_part():
    metric = PopulationMIA(())
    feed(metric, "test_forget", *samples(5, 0, 1.0))
    states = (metric.members, metric.unseen_retain, metric.forget_losses, metric.retain_losses)
    assert [(s[0].dtype, s[0].shape) for s in states] == [
        (torch.float64, (0, width)) for width in (4, 4, 1, 2)
    ]


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_logits_that_are_not_finite_are_an_error_that_names_the_part(value):
    with pytest.raises(EigenforgetError, match=r"part forget: .*logit"):
        feed(PopulationMIA(()), "forget", torch.tensor([[value, 0.0]]), torch.tensor([0]))


def test_delong_needs_two_on_each_side():
    with pytest.raises(EigenforgetError, match="2 samples on each side, got 1 and 3"):
        delong(members=np.ones(1), others=np.ones(3))
