"""The relative kernel test: its divergence against the problem that defines it, and its p-value."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.special import softmax
from scipy.stats import kstest

from eigenforget.evaluation.audits.kernel_test import KernelTest, contrasts
from eigenforget.evaluation.evidence import PartOutputs
from tests.numerics.shadows import evidence_of


def divergence(sample, reference, others, ridge):
    """max 2 (E_P h − E_Q h) − E_Q h² − ridge ‖h‖², h a sum of kernels at all points."""
    distances = pdist(reference, "sqeuclidean")
    width = np.median(distances[distances > 0])
    points = np.concatenate([sample, reference, others])
    gram, at_sample, at_reference = (
        np.exp(-cdist(rows, points, "sqeuclidean") / width) for rows in (points, sample, reference)
    )
    slope = at_sample.mean(axis=0) - at_reference.mean(axis=0)
    curve = at_reference.T @ at_reference / len(reference) + ridge * gram
    return slope @ np.linalg.lstsq(curve, slope, rcond=1e-14)[0]


def answers(seed, n=40, shift=0.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3))
    logits[:, 0] += shift
    return logits


@pytest.mark.parametrize("ridge", [0.05, 0.5])
def test_the_terms_add_up_to_the_difference_of_the_divergences(ridge):
    mine, other, reference = (softmax(answers(s, shift=s), axis=1) for s in (2, 1, 0))
    found = contrasts(mine, other, reference, ridge=ridge)
    one = divergence(mine, reference, other, ridge)
    two = divergence(other, reference, mine, ridge)
    assert one > two > 0
    assert found.sum() == pytest.approx(one - two, rel=1e-6)


def test_an_exchange_of_two_answers_turns_the_sign_of_their_term():
    mine, other, reference = (softmax(answers(s, shift=s), axis=1) for s in (2, 1, 0))
    before = contrasts(mine, other, reference, ridge=0.1)
    swapped = np.arange(40) % 3 == 0
    mine[swapped], other[swapped] = other[swapped].copy(), mine[swapped].copy()
    after = contrasts(mine, other, reference, ridge=0.1)
    assert np.allclose(after, np.where(swapped, -before, before), atol=1e-12)


def seen(logits):
    n = len(logits)
    return {"forget": PartOutputs(logits, np.zeros((n, 1)), np.zeros(n, int), np.arange(n))}


def p_of(mine, others, **settings):
    return KernelTest(**settings)(evidence_of(seen(mine), oracles=map(seen, others)), seed=0)


def test_answers_drawn_alike_have_uniform_p_values_and_others_a_small_one():
    values = [
        p_of(answers(s), [answers(s + 1000), answers(s + 2000)], draws=199)[1].value
        for s in range(120)
    ]
    # One reference serves both oracles of the ring in turn, so the test is nearly exact.
    assert kstest(values, "uniform").pvalue > 0.01
    gap, p = p_of(answers(1, shift=3.0), [answers(2), answers(3)])
    assert gap.value > 0 and p.value == 1 / 1000


def test_what_cannot_be_tested_has_a_reason():
    gap, p = p_of(answers(1), [answers(2)])
    assert gap.value is None and p.value is None and "got 40 and 1" in p.reason
    assert "got 9 and 2" in p_of(answers(1, n=9), [answers(2, n=9), answers(3, n=9)])[0].reason
    assert "alike" in p_of(answers(1), [np.zeros((40, 3)), answers(3)])[0].reason
    whole = evidence_of(seen(answers(1)), oracles=[seen(answers(2)), seen(answers(3))])
    capped = KernelTest(most=20)(whole, seed=0)
    assert capped[0].value != KernelTest()(dataclasses.replace(whole), seed=0)[0].value
