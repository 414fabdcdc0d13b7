"""Information of features: InfoNCE at its optimum, a known integral, and an index of known ends."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from eigenforget.evaluation.audits.idi import IDI, information
from eigenforget.evaluation.evidence import PartOutputs
from tests.numerics.shadows import evidence_of


def mutual_information(gap):
    """I(Z; Y) in nats of two equally likely normals `gap` apart."""

    def part(z):
        one, two = norm.pdf(z, gap / 2), norm.pdf(z, -gap / 2)
        mean = (one + two) / 2
        return sum(0.5 * p * math.log(p / mean) for p in (one, two) if p > 0)

    return quad(part, -gap - 8, gap + 8, limit=200)[0]


@pytest.mark.parametrize("gap", [0.0, 1.0, 2.5])
def test_two_normals_have_the_information_of_the_integral(gap):
    rng = np.random.default_rng(0)
    forget, retain = (rng.normal(size=(4000, 1)) + s * gap / 2 for s in (1, -1))
    found = information(forget, retain=retain, c=1.0, seed=0)
    assert found == pytest.approx(mutual_information(gap), abs=0.015)
    assert 0 <= found <= math.log(2)


def test_infonce_with_the_labels_of_the_batch_as_negatives_is_log_2_less_the_log_loss():
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(300, 3)), np.arange(300) % 2
    z[y == 1] += 0.8
    fit = LogisticRegression().fit(z, y)
    loss = -np.mean(fit.predict_log_proba(z)[np.arange(300), y])
    # The critic f(z)·g(y): twice the log-odds for y = 1 and 0 for y = 0.
    critic = np.stack([np.zeros(300), fit.decision_function(z)], axis=1)
    joint = critic[np.arange(300), y]
    infonce = np.mean(joint - (logsumexp(critic[:, y], axis=1) - math.log(300)))
    assert infonce == pytest.approx(math.log(2) - loss, abs=1e-12)


def rows_of(features, layers=()):
    n = len(features)
    return PartOutputs(np.zeros((n, 2)), features, np.zeros(n, int), np.arange(n), dict(layers))


def seen(gap, seed, n=200, layers=False):
    rng = np.random.default_rng(seed)
    made = {"forget": rng.normal(size=(n, 3)), "retain": rng.normal(size=(n, 3))}
    made["forget"][:, 0] += gap
    return {p: rows_of(f, {"early": f[:, 1:]} if layers else ()) for p, f in made.items()}


def index_of(model, original, oracles):
    found = evidence_of(model, oracles=oracles, gone=(1,))
    return IDI()(dataclasses.replace(found, original=original), seed=0)[0]


def test_the_original_has_1_a_retrained_model_about_0_and_a_flat_one_less():
    original, oracles = seen(4.0, 0), [seen(1.0, s) for s in (1, 2, 3)]
    assert index_of(original, original, oracles).value == 1.0
    assert abs(index_of(seen(1.0, 9), original, oracles).value) < 0.2
    assert index_of(seen(0.0, 9), original, oracles).value < -0.1
    assert 0.2 < index_of(seen(2.0, 9), original, oracles).value < 0.8


def test_further_layers_join_the_sum():
    # The further layer tells nothing, so the index is that of the headline layer, but for noise.
    plain = index_of(seen(2.0, 9), seen(4.0, 0), [seen(1.0, 1)]).value
    both = index_of(
        seen(2.0, 9, layers=True), seen(4.0, 0, layers=True), [seen(1.0, 1, layers=True)]
    )
    assert both.value == pytest.approx(plain, abs=0.1)


def test_where_the_original_tells_no_more_there_is_no_unit():
    alike = index_of(seen(1.0, 9), seen(1.0, 0), [seen(1.0, 1)])
    assert alike.value is None and "no difference" in alike.reason
    for changed in ({"forgotten_classes": ()}, {"original": None}, {"oracles": ()}):
        found = evidence_of(seen(2.0, 9), oracles=[seen(1.0, 1)], gone=(1,))
        whole = dataclasses.replace(found, original=seen(4.0, 0))
        assert IDI()(dataclasses.replace(whole, **changed), seed=0)[0].value is None
