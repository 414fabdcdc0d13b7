"""`influence` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods.base import Task
from eigenforget.methods.influence import Influence, conjugate_gradients
from eigenforget.training.engine import Engine
from tests.numerics.method_toys import engine64

L2 = 0.05


def logistic(x: Tensor, y: Tensor, start: nn.Module) -> nn.Module:
    """The optimum of mean cross-entropy + L2 ‖θ‖² / 2 by Newton's method with dense Hessians."""
    model = copy.deepcopy(start)
    for _ in range(30):
        gradient, hessian = dense_derivatives(model, x, y)
        flat = nn.utils.parameters_to_vector(model.parameters()).detach()
        nn.utils.vector_to_parameters(
            flat - torch.linalg.solve(hessian, gradient), model.parameters()
        )
    assert gradient.norm() < 1e-12
    return model


def dense_derivatives(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    sizes = [(k, p.shape) for k, p in model.named_parameters()]
    start = nn.utils.parameters_to_vector(model.parameters()).detach()

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([s.numel() for _, s in sizes])
        weights = {k: part.view(s) for (k, s), part in zip(sizes, parts, strict=True)}
        logits = torch.func.functional_call(model, weights, (x,))
        return nn.functional.cross_entropy(logits, y) + L2 / 2 * flat.square().sum()

    found = torch.autograd.functional
    return found.jacobian(loss, start), found.hessian(loss, start)


@pytest.fixture
def convex() -> Task:
    """Logistic regression at the optimum of 300 samples of which 6, drawn at random, are to be
    forgotten.
    """
    g = torch.Generator().manual_seed(7)
    y = torch.arange(300) % 3
    x = torch.randn(300, 4, generator=g, dtype=torch.float64) + nn.functional.one_hot(y, 4) * 1.5
    torch.manual_seed(0)
    model = logistic(x, y, nn.Sequential(nn.Linear(4, 3)).double())
    forget, retain = TensorSource(x[:6], y[:6]), TensorSource(x[6:], y[6:])
    return Task(model=model, forget=forget, retain=retain, engine=engine64(), seed=0, num_classes=3)


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_influence_equals_the_dense_solve(convex: Task, curvature: Any, damping: float) -> None:
    method = Influence(
        damping=damping,
        weight_decay=L2,
        curvature=curvature,
        iterations=200,
        tolerance=1e-12,
        hessian_samples=None,
        scale=0.7,
    )
    retain: Any = convex.retain
    gradient, hessian = dense_derivatives(convex.model, retain.inputs, retain.targets)
    of_forget, _ = dense_derivatives(convex.model, convex.forget.inputs, convex.forget.targets)  # type: ignore[attr-defined]
    damped = hessian + damping * torch.eye(len(hessian), dtype=torch.float64)
    start = nn.utils.parameters_to_vector(convex.model.parameters()).detach()
    # At the optimum of all data the forget gradient is minus the retain gradient, so both write the
    # same Newton step.
    torch.testing.assert_close(6 * of_forget, -294 * gradient, rtol=1e-8, atol=1e-10)
    expected = start + 0.7 * torch.linalg.solve(damped, 6 * of_forget / 294)
    moved = nn.utils.parameters_to_vector(method(convex).parameters()).detach()
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-10)
    assert (moved - start).norm() > 1e-3


def test_one_influence_step_lands_near_the_retrained_optimum(convex: Task) -> None:
    retain: Any = convex.retain
    retrained = nn.utils.parameters_to_vector(
        logistic(retain.inputs, retain.targets, convex.model).parameters()
    )
    start = nn.utils.parameters_to_vector(convex.model.parameters())
    method = Influence(damping=0.0, weight_decay=L2, iterations=100, tolerance=1e-10)
    moved = nn.utils.parameters_to_vector(method(convex).parameters())
    assert (moved - retrained).norm() < (start - retrained).norm() / 50


def test_conjugate_gradients_against_numpy() -> None:
    root = np.random.default_rng(0).normal(size=(9, 9))
    matrix, b = torch.as_tensor(root @ root.T + np.eye(9)), torch.as_tensor(np.arange(9.0))
    x = conjugate_gradients(lambda v: matrix @ v, b, iterations=50, tolerance=1e-12)
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(matrix.numpy(), b.numpy()), rtol=1e-8)
    loose = conjugate_gradients(lambda v: matrix @ v, b, iterations=50, tolerance=0.3)
    assert 1e-6 < (matrix @ loose - b).norm() <= 0.3 * b.norm()
    calls: list[int] = []
    one = conjugate_gradients(
        lambda v: calls.append(1) or matrix @ v, b, iterations=1, tolerance=1e-12
    )  # type: ignore[func-returns-value]
    torch.testing.assert_close(one, b * (b @ b) / (b @ matrix @ b))
    assert len(calls) == 1
    assert not conjugate_gradients(
        lambda v: matrix @ v, torch.zeros(9).double(), iterations=5, tolerance=0.1
    ).any()
    with pytest.raises(Refused, match="curvature -2; raise damping"):
        conjugate_gradients(lambda v: -2 * v, b, iterations=5, tolerance=0.1)


def test_influence_on_a_network(small: Task, task: Task) -> None:
    with pytest.raises(Refused, match="raise damping"):
        Influence(
            curvature="hessian", damping=0.0, weight_decay=0.0, iterations=100, tolerance=1e-9
        )(small)
    method = Influence(hessian_samples=200, iterations=8)
    result = method(replace(task, engine=(meter := Engine(device="cpu"))))
    assert meter.meter.trained <= len(task.forget) + 8 * 200
    found = evaluate(
        {"influence": result},
        forget=task.forget,
        retain=task.retain,
        test=task.retain,
        allow_overlap=True,
    ).measured["influence"]
    assert found.value("forget_accuracy") < 0.6 and found.value("retain_accuracy") > 0.97  # type: ignore[operator]
