"""The attack of printed tables: against its dual problem solved by scipy, and where it is known."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize
from scipy.special import softmax

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.audits.svc_mia import SVCMIA
from eigenforget.evaluation.metrics.accuracy import wilson_interval
from eigenforget.evaluation.metrics.panel import too_few
from tests.numerics.shadows import evidence_of, random_labels, random_seen

SIZES = {"forget": 60, "retain": 14, "test_retain": 14}


def confidences(rows):
    return softmax(rows.logits.astype(np.float64), axis=1)[np.arange(len(rows.labels)), rows.labels]


def decision(x, y, at, c=3.0):
    """The decision values of the soft-margin machine with kernel exp(-(x - x')^2), from its dual.

    gamma="auto" is one over the number of features, which is 1.
    """
    kernel = np.exp(-np.square(x[:, None] - x[None, :]))
    signed = kernel * y[:, None] * y[None, :]
    found = minimize(
        lambda a: 0.5 * a @ signed @ a - a.sum(),
        np.full(len(x), c / 2),
        jac=lambda a: signed @ a - 1,
        bounds=[(0, c)] * len(x),
        constraints=LinearConstraint(y, 0, 0),
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    weights = found.x * y
    free = (found.x > 1e-4) & (found.x < c - 1e-4)
    offset = np.mean((y - kernel @ weights)[free])
    return np.exp(-np.square(at[:, None] - x[None, :])) @ weights + offset


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_share_is_that_of_the_dual_problem(seed):
    labels = random_labels(seed, SIZES)
    seen = random_seen(seed, SIZES, labels=labels, scale=1.0)
    rows = seen["retain"]
    shifted = rows.logits.copy()
    shifted[np.arange(14), rows.labels] += 2.0  # members are surer of their labels
    parts = {**seen, "retain": rows._replace(logits=shifted)}
    retain, test, forget = (confidences(parts[p]) for p in ("retain", "test_retain", "forget"))
    values = decision(np.r_[retain, test], np.r_[np.ones(14), -np.ones(14)], forget)
    clear = np.abs(values) > 1e-3  # the two solvers stop at 1e-3 and 1e-14
    (score,) = SVCMIA()(evidence_of(parts), seed=0)
    assert clear.sum() >= 55
    called = round(score.value * 60)
    assert (values[clear] < 0).sum() <= called <= (values[clear] < 0).sum() + (~clear).sum()
    assert (score.low, score.high) == tuple(wilson_interval(successes=called, trials=60))


def test_a_model_that_denies_the_labels_has_1_and_one_that_knows_them_0():
    labels = random_labels(0, SIZES)
    for shift, expected in ((-9.0, 1.0), (9.0, 0.0)):
        seen = random_seen(0, SIZES, labels=labels, scale=0.5)
        sure = {
            p: rows._replace(logits=rows.logits + by * np.eye(4, dtype=np.float32)[rows.labels])
            for p, by in (("retain", 9.0), ("forget", shift), ("test_retain", 0.0))
            for rows in (seen[p],)
        }
        (score,) = SVCMIA()(evidence_of(sure), seed=0)
        assert score.value == expected and score.trace == "below"


def test_both_sides_have_one_size_and_too_few_samples_are_a_reason():
    sizes = {"forget": 20, "retain": 300, "test_retain": 30}
    seen = random_seen(0, sizes, labels=random_labels(0, sizes))
    values = {SVCMIA()(evidence_of(seen), seed=seed)[0].value for seed in range(6)}
    assert len(values) > 1, "30 of the 300 are drawn"
    few = {
        **seen,
        "test_retain": seen["test_retain"]._replace(
            logits=np.zeros((9, 4)), labels=np.zeros(9, int)
        ),
    }
    (score,) = SVCMIA()(evidence_of(few), seed=0)
    assert score.value is None and score.reason == too_few(test_retain=9)
    with pytest.raises(EigenforgetError, match="not finite"):
        SVCMIA()(
            evidence_of(
                {**seen, "forget": seen["forget"]._replace(logits=np.full((20, 4), np.nan))}
            ),
            seed=0,
        )
