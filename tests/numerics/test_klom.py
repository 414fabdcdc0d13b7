"""KLoM against a loop over numpy's histograms and scipy's entropy; identical and disjoint
ensembles; its bound.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import entropy

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import generator
from eigenforget.core.spec import parse
from eigenforget.evaluation.audits.klom import KLoM
from eigenforget.evaluation.metrics.panel import no_samples
from tests.numerics.shadows import evidence_of, random_labels, random_seen, trained

NAMES = ["klom_forget", "klom_retain", "klom_test"]
SIZES = {"forget": 25, "retain": 60, "test_retain": 30}


def made_up(peers, oracles, sizes=SIZES, scale=20.0):
    labels = random_labels(0, sizes)
    seen = [random_seen(i, sizes, labels=labels, scale=scale) for i in range(1 + peers + oracles)]
    return evidence_of(seen[0], peers=seen[1 : 1 + peers], oracles=seen[1 + peers :])


def margin(rows, i):
    logits, label = rows.logits[i].astype(np.float64), rows.labels[i]
    return logits[label] - logsumexp(np.delete(logits, label))


def slow_klom(evidence, part, rows, *, bins=20, limit=100.0, epsilon=1e-5):
    """Sample by sample: histograms over models by numpy, KL(oracles ‖ models) by scipy, which
    normalises.
    """
    edges, found = np.linspace(-limit, limit, bins + 1), []
    for i in rows:
        sides = []
        for models in (evidence.oracles, (evidence.parts, *evidence.peers)):
            phi = np.clip([margin(seen[part], i) for seen in models], -limit, limit)
            sides.append(np.histogram(phi, edges)[0] / len(models) + epsilon)
        found.append(entropy(*sides))
    return np.mean(found)


@pytest.mark.parametrize(("peers", "oracles"), [(1, 2), (4, 3)])
@pytest.mark.parametrize("scale", [5.0, 60.0])
def test_it_is_the_loop_over_histograms(peers, oracles, scale):
    evidence = made_up(peers, oracles, scale=scale)
    found = KLoM()(evidence, seed=0)
    assert [s.name for s in found] == NAMES
    for score, (part, n) in zip(found, SIZES.items(), strict=True):
        assert score.value == pytest.approx(slow_klom(evidence, part, range(n)), rel=1e-10)
        assert (score.unit, score.better, score.trace) == ("nats", "reference", "both")
        assert score.range[0] == 0.0 <= score.value <= score.range[1]


def test_the_settings_are_used():
    evidence = made_up(2, 3, scale=3.0)
    found = KLoM(bins=7, limit=11.0, epsilon=1e-3)(evidence, seed=0)
    assert found[0].value == pytest.approx(
        slow_klom(evidence, "forget", range(25), bins=7, limit=11.0, epsilon=1e-3), rel=1e-10
    )
    assert parse("klom(bins=7)", [KLoM], "audit") == KLoM(bins=7)
    with pytest.raises(EigenforgetError):
        parse("klom(bins=1)", [KLoM], "audit")


@pytest.mark.parametrize("seed", [0, 5])
def test_retained_samples_are_a_seeded_draw(seed):
    evidence = made_up(1, 2)
    rows = torch.randperm(60, generator=generator(seed, "klom"))[:20].tolist()
    found = KLoM(max_retain=20)(evidence, seed=seed)
    assert found[1].value == pytest.approx(slow_klom(evidence, "retain", rows), rel=1e-10)
    assert found == KLoM(max_retain=20)(evidence, seed=seed)
    assert (found[0], found[2]) == (KLoM()(evidence, seed=seed)[0], KLoM()(evidence, seed=seed)[2])


def test_identical_ensembles_are_at_zero():
    evidence = made_up(1, 2)
    same = dataclasses.replace(evidence, oracles=(evidence.parts, *evidence.peers))
    assert [s.value for s in KLoM()(same, seed=0)] == [0.0, 0.0, 0.0]


def test_ensembles_that_share_no_bin_are_at_the_bound():
    sizes = {"forget": 12}
    labels = random_labels(0, sizes)
    low, high = (
        [random_seen(i, sizes, labels=labels, scale=0.1, shift=shift) for i in range(3)]
        for shift in (-54.0, 56.0)
    )
    score = KLoM()(evidence_of(low[0], peers=low[1:], oracles=high), seed=0)[0]
    bound = math.log((1 + 1e-5) / 1e-5) / (1 + 20e-5)
    assert score.range[1] == pytest.approx(bound, rel=1e-12) and bound == pytest.approx(
        11.51, abs=0.01
    )
    assert score.value == pytest.approx(bound, rel=1e-12) and score.value <= score.range[1]


def test_margins_on_an_edge_fall_as_in_numpys_histogram_and_far_ones_are_clipped():
    phi = np.array([[-100.0, -90.0, -90.1, 0.0, 99.9, 100.0, 1e4, -1e4, 10.0]])
    found = KLoM()._histograms(phi)
    for i, value in enumerate(np.clip(phi[0], -100, 100)):
        counts = np.histogram([value], np.linspace(-100, 100, 21))[0]
        np.testing.assert_allclose(found[:, i], (counts + 1e-5) / (1 + 20e-5), rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-12)


def test_the_divergence_is_from_the_oracles_to_the_models():
    # Oracles all in one bin, models in two: KL(P ‖ Q) is about log 2; the other way round half of
    # Q's mass costs log(1 / ε).
    one, two = np.full((4, 1), 5.0), np.array([[5.0], [5.0], [25.0], [25.0]])
    assert KLoM().distances(oracles=one, models=two)[0] == pytest.approx(math.log(2), abs=1e-3)
    assert KLoM().distances(oracles=two, models=one)[0] > 4


def test_models_with_canaries_lie_further_than_retrained_ones_on_the_canaries():
    oracles = [trained(seed, with_canaries=False) for seed in (1, 2)]
    kept = [trained(seed, with_canaries=True) for seed in (11, 12)]
    retrained = [trained(seed, with_canaries=False) for seed in (3, 4)]
    leak, clean = (
        KLoM(limit=20.0)(evidence_of(m[0], peers=m[1:], oracles=oracles), seed=0)[0].value
        for m in (kept, retrained)
    )
    assert leak > 1.5 * clean


@pytest.mark.parametrize(
    ("peers", "oracles", "counts"), [(0, 3, "1 and 3"), (2, 1, "3 and 1"), (0, 0, "1 and 0")]
)
def test_fewer_than_two_models_on_a_side_is_not_applicable(peers, oracles, counts):
    found = KLoM()(made_up(peers, oracles), seed=0)
    assert [s.name for s in found] == NAMES
    assert all(s.value is None and s.reason.endswith(f"got {counts}") for s in found)


@pytest.mark.parametrize("part", list(SIZES))
def test_a_part_that_is_missing_takes_its_score_with_it(part):
    evidence = made_up(1, 2)
    left = dataclasses.replace(
        evidence, parts={p: rows for p, rows in evidence.parts.items() if p != part}
    )
    for score, own in zip(KLoM()(left, seed=0), SIZES, strict=True):
        assert (score.value is None) == (own == part)
        assert own != part or score.reason == no_samples(part)


def test_logits_that_are_not_finite_are_an_error():
    evidence = made_up(1, 2)
    evidence.oracles[1]["forget"].logits[0, 0] = -np.inf
    with pytest.raises(EigenforgetError, match="part forget: a logit is not finite"):
        KLoM()(evidence, seed=0)
