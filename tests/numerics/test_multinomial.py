"""Penalised multinomial regressions beside scikit-learn's, and how they end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from eigenforget.evaluation import multinomial
from eigenforget.evaluation.multinomial import Settings, joint_optimum

N, WIDTH = 3000, 24


def problem(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, WIDTH] whose directions differ a thousandfold in energy, and labels [N]."""
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=N)
    centres = 0.5 * rng.normal(size=(classes, WIDTH))
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH))).Q
    spread = np.geomspace(3, 0.1, WIDTH)
    return ((centres[labels] + rng.normal(size=(N, WIDTH))) * spread) @ turn + 0.5, labels


def fitted(features: np.ndarray, labels: np.ndarray, **changes: Any) -> np.ndarray | None:
    """Weights [D + 1, C] with the default settings."""
    members = (labels[:, None] == np.unique(labels)).astype(np.float64)
    settings = Settings(1.0, 5000, 1e-5)._replace(**changes)
    found = joint_optimum(features[None], members[None], settings)
    return None if found is None else found[0]


def gradient(features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The largest entry of the gradient of the mean loss, by its formula."""
    rows = np.c_[features, np.ones(N)]
    scores = rows @ weights
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    errors = shares - (labels[:, None] == np.unique(labels))
    penalty = np.r_[weights[:-1], np.zeros((1, weights.shape[1]))]
    return float(np.abs(rows.T @ errors + (2 if weights.shape[1] == 2 else 1) * penalty).max()) / N


@pytest.mark.parametrize("classes", [2, 7])
def test_the_optimum_is_scikit_learns_within_the_tolerance_of_its_gradient(classes: int) -> None:
    features, labels = problem(classes)
    weights = fitted(features, labels)
    assert weights is not None
    assert gradient(features, labels, weights) <= 1e-5
    exact = LogisticRegression(tol=1e-10, max_iter=20_000).fit(features, labels)
    usual = LogisticRegression(tol=1e-5, max_iter=20_000).fit(features, labels)
    answers = (features @ weights[:-1] + weights[-1]).argmax(1)
    # no further from the exact optimum than a fit of scikit-learn to the same tolerance may be
    for other in (exact, usual):
        assert np.mean(answers != other.predict(features)) <= 0.002
    assert 0.5 < np.mean(answers == labels) < 1
    tight = fitted(features, labels, tolerance=1e-9)
    assert tight is not None
    slopes = tight[:-1, 1] - tight[:-1, 0]
    theirs = exact.coef_[0] if classes == 2 else exact.coef_[1] - exact.coef_[0]
    np.testing.assert_allclose(slopes, theirs, atol=2e-4)


def test_the_change_of_variables_and_float32_decide_no_optimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = problem(5)
    first = fitted(features, labels, tolerance=1e-9)
    assert first is not None
    for name, value in (("_CURVATURE", 1.0), ("_SWITCH", 1e12), ("_SAMPLED", 200), ("_MEMORY", 40)):
        with monkeypatch.context() as patched:
            patched.setattr(multinomial, name, value)
            again = fitted(features, labels, tolerance=1e-9)
        assert again is not None
        np.testing.assert_allclose(again, first, atol=2e-4)


@pytest.mark.parametrize("iterations", [1, 5, 20])
def test_too_few_iterations_give_no_weights(iterations: int) -> None:
    assert fitted(*problem(5), max_iter=iterations) is None


def test_inputs_that_say_nothing_give_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [100, 200, 700])
    weights = fitted(np.zeros((1000, 4)), labels, tolerance=1e-8)
    assert weights is not None
    assert not weights[:-1].any()
    shares = np.exp(weights[-1]) / np.exp(weights[-1]).sum()
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.7], atol=1e-6)


def test_inputs_too_large_for_their_moments_do_not_converge() -> None:
    features, labels = problem(3)
    assert fitted(features * 1e200, labels) is None
