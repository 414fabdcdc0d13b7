"""`certified_head`: its fit against scipy, its bound as a theorem, and what it says of itself."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from eigenforget.core.errors import Refused
from eigenforget.methods import CertifiedHead, Finetune
from eigenforget.methods.base import Task
from eigenforget.methods.certified_head import (
    ASSUMPTIONS,
    CERTIFICATE,
    GAMMA,
    Objective,
    certificate_of,
    one_against_rest,
)
from eigenforget.record import make_salt
from tests.numerics.method_toys import changed

L2 = 0.02


def objective(n: int = 60, seed: int = 0, noise: float = 1.0) -> Objective:
    g = torch.Generator().manual_seed(seed)
    rows = 3 * torch.randn(n, 4, generator=g, dtype=torch.float64)
    labels = torch.randint(3, (n,), generator=g)
    b = noise * torch.randn(4, 3, generator=g, dtype=torch.float64)
    return Objective(rows, one_against_rest(labels, 3), b)


def test_the_fit_is_the_minimum_that_scipy_finds() -> None:
    given = objective()
    fitted = given.minimum(L2, 100)
    rows, b = given.rows.numpy(), given.noise.numpy()
    for k in range(3):
        t = given.targets[:, k].numpy()

        def value(w: np.ndarray, t: np.ndarray = t, k: int = k) -> float:
            losses = np.logaddexp(0, -t * (rows @ w)) + L2 * (w @ w) / 2
            return float(losses.sum() + b[:, k] @ w)

        best = minimize(value, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(fitted.weights[:, k], best, atol=1e-5)
        assert float(given.value(fitted.weights, L2)[k]) == pytest.approx(value(best))
    assert fitted.residual < 1e-8


def test_the_gradient_is_that_of_the_objective() -> None:
    given = objective()
    w = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(given.value(w, L2).sum(), w)
    torch.testing.assert_close(given.gradient(w.detach(), L2), gradient)


@pytest.mark.parametrize("removed", [1, 10, 30])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_of_the_gradient_is_within_the_bound(removed: int, seed: int) -> None:
    """The theorem that the certificate rests on."""
    given = objective(seed=seed)
    kept = given.without(removed)
    found = kept.removed(given.minimum(L2, 100).weights, L2)
    left = float(kept.gradient(found.weights, L2).norm())
    assert left <= found.bound
    assert removed > 1 or found.bound < 100 * max(left, 1e-6), "and the bound is not empty"


def test_one_sample_less_moves_the_head_to_where_retraining_ends() -> None:
    given = objective(400)
    before, kept = given.minimum(L2, 100).weights, given.without(1)
    retrained, removed = kept.minimum(L2, 100).weights, kept.removed(before, L2).weights
    assert (removed - retrained).norm() < 0.01 * (before - retrained).norm()


def test_gamma_is_the_sharp_constant() -> None:
    p = np.linspace(0, 1, 200_001)
    assert np.abs(p * (1 - p) * (1 - 2 * p)).max() == pytest.approx(GAMMA, rel=1e-9)


def task_with_few(shallow: Task) -> Task:
    return replace(shallow, forget=shallow.forget.subset(np.arange(1)), forgotten_classes=())


def test_the_head_is_that_of_the_formula_and_all_else_stays(shallow: Task) -> None:
    task, method = task_with_few(shallow), CertifiedHead(noise=5.0, l2=0.05, epsilon=1e9)
    result = method(task)
    assert changed(result, task.model) == {"2.weight", "2.bias"}
    with torch.no_grad():
        sides = [torch.tanh(task.model[0](s.inputs)) for s in (task.forget, task.retain)]  # type: ignore[index,union-attr]
    rows = torch.cat([torch.cat(sides), torch.ones(31, 1)], 1)
    labels = torch.cat([task.forget.targets, task.retain.targets])  # type: ignore[attr-defined,union-attr]
    given = Objective(rows, one_against_rest(labels, 4), method.perturbation(rows, task))
    removal = given.without(1).removed(given.minimum(0.05, 100).weights, 0.05)
    head = result[2]  # type: ignore[index]
    found = torch.cat([head.weight, head.bias[:, None]], 1).detach().T
    torch.testing.assert_close(found, removal.weights, rtol=1e-5, atol=1e-6)
    certificate = certificate_of(result)["certificate"]
    c = math.sqrt(2 * math.log(1.5 / 1e-5))
    assert certificate["epsilon"] == pytest.approx(c * removal.bound / 5.0, rel=1e-4)
    assert certificate["residual_bound"] == pytest.approx(removal.bound, rel=1e-4)
    assert certificate["delta"] == 1e-5 and certificate["assumptions"] == list(ASSUMPTIONS)


def test_more_than_the_accepted_epsilon_is_refused_with_the_number(shallow: Task) -> None:
    reached = certificate_of(CertifiedHead(epsilon=1e9)(shallow))["certificate"]["epsilon"]
    assert certificate_of(CertifiedHead(epsilon=reached * 1.01)(shallow))
    with pytest.raises(Refused, match=re.escape(f"reaches ε = {reached:.3g} at δ = 1e-05")):
        CertifiedHead(epsilon=reached * 0.99)(shallow)


def test_the_noise_may_come_from_a_secret(shallow: Task, tmp_path: Path) -> None:
    task = task_with_few(shallow)
    secret = str(make_salt(tmp_path / "salt"))
    plain, hidden, again = (
        CertifiedHead(epsilon=1e9, secret=file)(task) for file in ("", secret, secret)
    )
    assert not changed(hidden, again) and changed(hidden, plain)
    assert getattr(hidden, CERTIFICATE)["noise_from"] == "seed and secret"
    with pytest.raises(Refused, match=r"certified_head: secret: .*nowhere"):
        CertifiedHead(secret=str(tmp_path / "nowhere"))(task)


def test_other_methods_certify_nothing(shallow: Task) -> None:
    assert certificate_of(Finetune(epochs=1)(shallow)) == {}
