"""U-LiRA against loops over oracles and samples, Obuchowski's variance by a cluster bootstrap, a
planted leak.
"""

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.audits import u_lira
from eigenforget.evaluation.audits.u_lira import (
    PHI_LIMIT,
    Statistics,
    ULiRA,
    auc_interval_over_models,
    clustered_auc,
    gaussian,
)
from eigenforget.evaluation.evidence import PartOutputs
from eigenforget.evaluation.metrics.attacks import delong, threshold_attack
from tests.numerics.shadows import evidence_of, random_labels, random_seen, trained

NAMES = ["u_lira_auc", "u_lira_tpr_1", "u_lira_tpr_01"]
FORGET = {"forget": 40}


def made_up(peers, oracles, sizes=FORGET):
    labels = random_labels(0, sizes)
    seen = lambda seed, shift: random_seen(seed, sizes, labels=labels, scale=1.0, shift=shift)
    return evidence_of(
        seen(1, 1.0),
        peers=[seen(20 + i, 1.0) for i in range(peers)],
        oracles=[seen(50 + j, 0.0) for j in range(oracles)],
    )


def slow_phi(seen):
    rows = seen["forget"]
    p = softmax(rows.logits.astype(np.float64), axis=1)[np.arange(len(rows.labels)), rows.labels]
    return np.log(p) - np.log1p(-p)


def slow_tests(evidence):
    """Statistics of the model and of the oracle left out, [J, n], one number at a time."""
    target, ins, outs = (
        slow_phi(evidence.parts),
        *([slow_phi(s) for s in side] for side in (evidence.peers, evidence.oracles)),
    )

    def spread(models, i):
        own = [np.var([m[k] for m in models], ddof=1) for k in range(len(target))]
        return np.sqrt(own[i] if len(models) >= 8 else np.mean(own))

    def log_ratio(phi, i, others):
        sides = [
            norm.logpdf(phi, np.mean([m[i] for m in models]), spread(models, i))
            for models in (ins, others)
        ]
        return sides[0] - sides[1]

    rest = [outs[:j] + outs[j + 1 :] for j in range(len(outs))]
    of_model = [[log_ratio(target[i], i, others) for i in range(len(target))] for others in rest]
    of_oracle = [
        [log_ratio(outs[j][i], i, others) for i in range(len(target))]
        for j, others in enumerate(rest)
    ]
    return np.array(of_model), np.array(of_oracle)


def slow_auc(positives, negatives):
    return roc_auc_score(
        np.r_[np.ones(positives.size), np.zeros(negatives.size)],
        np.r_[positives.ravel(), negatives.ravel()],
    )


@pytest.mark.parametrize(("peers", "oracles"), [(2, 3), (3, 4), (8, 9), (9, 8)])
def test_it_is_the_loop_over_oracles_left_out_and_samples(peers, oracles):
    evidence = made_up(peers, oracles)
    positives, negatives = slow_tests(evidence)
    auc, tpr, rare = ULiRA()(evidence, seed=0)
    assert [auc.name, tpr.name, rare.name] == NAMES
    assert auc.value == pytest.approx(slow_auc(positives, negatives), abs=1e-12)
    allowed = oracles * 40 // 100
    assert tpr.value == pytest.approx(
        np.mean(positives > np.sort(negatives.ravel())[::-1][allowed]), abs=1e-12
    )
    assert auc.low < auc.value < auc.high and tpr.low <= tpr.value <= tpr.high
    assert (
        rare.value is None
        and f"needs 1000 statistics of models that never saw the samples, got {oracles * 40}"
        == rare.reason
    )
    assert {s.trace for s in (auc, tpr, rare)} == {"both"} and {
        s.better for s in (auc, tpr, rare)
    } == {"reference"}


def test_the_clustered_variance_is_near_a_bootstrap_over_samples_and_above_the_naive_one():
    rng = np.random.default_rng(0)
    hard = rng.normal(
        size=150
    )  # the same samples are hard for every model: statistics of one sample belong together
    positives, negatives = (
        hard * side + shift + 0.3 * rng.normal(size=(4, 150))
        for side, shift in ((1.0, 0.5), (-0.5, 0.0))
    )
    found = clustered_auc(positives, negatives=negatives)
    assert found.auc == pytest.approx(slow_auc(positives, negatives), abs=1e-12)
    draws = [
        slow_auc(positives[:, rows], negatives[:, rows])
        for rows in rng.integers(0, 150, (600, 150))
    ]
    assert np.sqrt(found.variance) == pytest.approx(np.std(draws), rel=0.1)
    assert found.variance > 2 * delong(members=positives.ravel(), others=negatives.ravel()).variance


def test_the_clustered_variance_of_independent_statistics_is_near_delongs():
    rng = np.random.default_rng(1)
    positives, negatives = rng.normal(0.7, 1, (1, 4000)), rng.normal(0, 1, (1, 4000))
    expected = delong(members=positives[0], others=negatives[0])
    found = clustered_auc(positives, negatives=negatives)
    assert found.auc == pytest.approx(expected.auc, abs=1e-12) and found.variance == pytest.approx(
        expected.variance, rel=0.05
    )


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_all_ties_and_full_separation_have_variance_exactly_zero(value):
    same = np.full((3, 13), value)
    assert clustered_auc(same, negatives=same) == (0.5, 0.0)
    assert clustered_auc(same + 1, negatives=same) == (1.0, 0.0)


@pytest.mark.parametrize("models", [2, 7, 8, 20])
def test_with_few_models_all_samples_share_one_variance(models):
    phi = np.random.default_rng(2).normal(size=(models, 30)) * np.linspace(0.5, 3, 30)
    fit = gaussian(phi)
    own = phi.var(axis=0, ddof=1)
    np.testing.assert_allclose(
        fit.variance, own if models >= 8 else np.full(30, own.mean()), rtol=1e-12
    )
    np.testing.assert_allclose(fit.mean, phi.mean(axis=0), rtol=1e-12)
    log_density = norm.logpdf(0.3, fit.mean, np.sqrt(fit.variance)) + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(fit.log_density(np.full(30, 0.3)), log_density, rtol=1e-12)


def test_a_planted_leak_is_found_in_models_that_forgot_nothing():
    oracles = [trained(seed, with_canaries=False) for seed in (1, 2, 3)]
    peers = [trained(seed, with_canaries=True) for seed in (12, 13)]
    auc, tpr, _ = ULiRA()(
        evidence_of(trained(11, with_canaries=True), oracles=oracles, peers=peers), seed=0
    )
    assert auc.value >= 0.9 and auc.low > 0.85 and tpr.value > 0.5


@pytest.mark.parametrize("target", [1, 2, 3, 4])
def test_a_retrained_model_is_not_told_from_retrained_ones(target):
    oracles = [trained(seed, with_canaries=False) for seed in (1, 2, 3, 4) if seed != target]
    peers = [trained(seed, with_canaries=True) for seed in (12, 13)]
    auc = ULiRA()(
        evidence_of(trained(target, with_canaries=False), oracles=oracles, peers=peers), seed=0
    )[0]
    assert auc.low < 0.5 < auc.high


@pytest.mark.parametrize(("oracles", "own_shift"), [(3, 0.0), (3, 0.5), (6, 0.5)])
def test_over_many_worlds_of_exact_unlearning_the_mean_is_one_half_and_the_intervals_hold_it(
    monkeypatch, oracles, own_shift
):
    """Each model has a level of its own, as training seeds give it: what an interval over samples
    alone would miss.
    """
    monkeypatch.setattr(u_lira, "DRAWS", 2)
    sizes, rng, found = {"forget": 60}, np.random.default_rng(5), []
    for world in range(150):
        labels = random_labels(world, sizes)
        shifts = own_shift * rng.normal(size=3 + oracles)
        model, *rest = (
            random_seen(1000 * world + i, sizes, labels=labels, scale=1.0, shift=s)
            for i, s in enumerate(shifts)
        )
        found.append(ULiRA()(evidence_of(model, peers=rest[:2], oracles=rest[2:]), seed=0)[0])
    values = [s.value for s in found]
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(150)
    assert np.mean([s.low <= 0.5 <= s.high for s in found]) >= 0.92


def test_the_interval_joins_samples_and_training_seeds_in_quadrature():
    rng = np.random.default_rng(6)
    tests = Statistics(
        rng.normal(0.3, 1, (4, 90)),
        rng.normal(0, 1, (4, 90)) + np.array([[0.2], [-0.2], [0.1], [0.0]]),
    )
    found = clustered_auc(tests[0], negatives=tests[1])
    alone = [slow_auc(tests.of_model[j], tests.of_oracle[j]) for j in range(4)]
    half = np.sqrt(
        1.959963984540054**2 * found.variance
        + (t.ppf(0.975, 3) * np.std(alone, ddof=1)) ** 2 * 1.25
    )
    low, high = auc_interval_over_models(found, tests)
    assert (low, high) == pytest.approx(
        (max(found.auc - half, 0), min(found.auc + half, 1)), abs=1e-12
    )


def test_models_that_all_mask_a_class_give_a_finite_answer():
    rng = np.random.default_rng(3)
    labels = np.zeros(40, dtype=int)

    def masked():
        logits = rng.normal(size=(40, 3)) + np.array([-1e4, 0, 0])
        return {"forget": PartOutputs(logits, np.zeros((40, 1)), labels, np.arange(40))}

    found = ULiRA()(
        evidence_of(masked(), peers=[masked(), masked()], oracles=[masked() for _ in range(3)]),
        seed=0,
    )
    assert found[0].value == 0.5 and found[0].low < 0.5 < found[0].high, (
        f"every margin is clipped to -{PHI_LIMIT}"
    )
    assert found[1].value == 0.0 and found[1].high > 0


def test_the_same_seed_gives_the_same_bits_and_the_model_stays_as_it_is():
    evidence = made_up(2, 3)
    before = evidence.parts["forget"].logits.copy()
    assert ULiRA()(evidence, seed=4) == ULiRA()(evidence, seed=4)
    assert np.array_equal(evidence.parts["forget"].logits, before)


@pytest.mark.parametrize(("peers", "oracles"), [(1, 3), (2, 2), (0, 0)])
def test_too_few_models_is_not_applicable(peers, oracles):
    found = ULiRA()(made_up(peers, oracles), seed=0)
    assert [s.name for s in found] == NAMES
    assert all(
        s.value is None and s.reason.endswith(f"and 3 oracles, got {peers} and {oracles}")
        for s in found
    )


def test_too_few_samples_is_not_applicable():
    few = made_up(2, 3, sizes={"forget": 9})
    assert ULiRA()(few, seed=0)[0].reason == "needs 10 samples of the forget set, got 9"
    assert (
        ULiRA()(dataclasses.replace(few, parts={}), seed=0)[0].reason
        == "there are no samples of the forget set"
    )


def test_logits_that_are_not_finite_are_an_error():
    evidence = made_up(2, 3)
    evidence.peers[1]["forget"].logits[0, 0] = np.nan
    with pytest.raises(EigenforgetError, match="part forget: a logit is not finite"):
        ULiRA()(evidence, seed=0)


@pytest.mark.parametrize("fpr", [0.01, 0.1, 0.6])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_a_resample_is_attacked_as_if_it_had_been_written_out(fpr, levels):
    rng = np.random.default_rng(levels)
    tests = Statistics(*(rng.integers(0, levels, size=(5, 60)) / 7 for _ in range(2)))
    resampled = u_lira.Resamples(tests, fpr)
    for _ in range(50):
        oracles, samples = rng.integers(0, 5, size=5), rng.integers(0, 60, size=60)
        written = [side[np.ix_(oracles, samples)].ravel() for side in tests]
        expected = threshold_attack(members=written[0], others=written[1], fpr=fpr)
        assert resampled.hits(oracles, samples) == expected
