"""`fisher_forgetting` against its own formula, written out again by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from eigenforget.core import seeds
from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.fisher_forgetting import FisherForgetting
from tests.numerics.method_toys import close_weights, loss_gradient, rows


def model_fisher(task: Task) -> list[np.ndarray]:
    total = [np.zeros(p.shape) for p in task.model.parameters()]
    data = rows(task.retain)
    for x, _ in data:
        p = torch.softmax(task.model(x), -1).detach().numpy()
        for label in range(task.num_classes):
            for t, g in zip(total, loss_gradient(task.model, x, label), strict=True):
                t += p[label] * g.numpy() ** 2 / len(data)
    return total


def test_fisher_forgetting_published_code_by_hand(small: Task) -> None:
    result = FisherForgetting(alpha=1e-3, limit=30.0)(small)
    generator = seeds.generator(3, "fisher_forgetting", "noise")
    for i, (new, old, f) in enumerate(
        zip(result.parameters(), small.model.parameters(), model_fisher(small), strict=True)
    ):
        in_head = i >= 2
        variance = 1e-3 * np.minimum(1 / (f + 1e-8), 3.0 if in_head else 30.0)
        if f.ndim == 2:
            variance = np.repeat(variance.mean(1, keepdims=True), f.shape[1], axis=1)
        center = old.detach().numpy().copy()
        if in_head:
            center[2], variance[2] = 0.0, 1e-4
        if in_head or f.ndim == 1:
            variance = variance * 10
        noise = torch.randn(f.shape, generator=generator, dtype=torch.float64).numpy()
        np.testing.assert_allclose(
            new.detach().numpy(), center + np.sqrt(variance) * noise, rtol=1e-9
        )


def test_fisher_forgetting_paper_variance_minimises_its_lagrangian(small: Task) -> None:
    alpha, fisher = 0.02, model_fisher(small)
    method = FisherForgetting(alpha=alpha, form="paper", limit=1e9)
    for f in fisher:
        variance = method.variance(torch.as_tensor(f), in_head=False).numpy()
        for at in list(np.ndindex(f.shape))[:4]:

            def cost(log_v: np.ndarray, f: float = f[at]) -> float:
                return 0.5 * (f * math.exp(log_v[0]) + alpha**2 * math.exp(-log_v[0]))

            best = minimize(cost, [0.0], method="BFGS", options={"gtol": 1e-10})
            assert math.exp(best.x[0]) == pytest.approx(variance[at], rel=1e-3)
    result = method(small)
    generator = seeds.generator(3, "fisher_forgetting", "noise")
    for new, old, f in zip(result.parameters(), small.model.parameters(), fisher, strict=True):
        noise = torch.randn(f.shape, generator=generator, dtype=torch.float64).numpy()
        want = old.detach().numpy() + np.sqrt(alpha) * (f + 1e-8) ** -0.25 * noise
        np.testing.assert_allclose(new.detach().numpy(), want, rtol=1e-9)
    limited = FisherForgetting(alpha=alpha, form="paper", limit=2.0).variance(
        torch.tensor([1e-9, 1.0]), in_head=False
    )
    np.testing.assert_allclose(limited.numpy(), [2 * alpha, alpha], rtol=1e-6)


def test_fisher_forgetting_depends_on_its_seed_and_on_retained_inputs_only(small: Task) -> None:
    method = FisherForgetting(alpha=1e-3)
    other_forget = replace(
        small, forget=TensorSource(small.forget.inputs * 9, small.forget.targets)
    )  # type: ignore[attr-defined]
    close_weights(method(small), method(other_forget), 0.0)
    relabelled = replace(
        small, retain=TensorSource(small.retain.inputs, (small.retain.targets + 1) % 4)
    )  # type: ignore[union-attr]
    close_weights(method(small), method(relabelled), 0.0)
    different = method(replace(small, seed=4))
    assert all(
        (a != b).all()
        for a, b in zip(method(small).parameters(), different.parameters(), strict=True)
    )
    at_random = method(replace(small, forgotten_classes=()))
    row = at_random[2].weight[2] - method(small)[2].weight[2]  # type: ignore[index]
    assert row.abs().max() > 0.05, "without a forgotten class no head row is replaced"
