"""`wood_fisher` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from eigenforget.methods.base import Task
from eigenforget.methods.wood_fisher import WoodFisher
from eigenforget.training.engine import Engine
from tests.numerics.method_toys import close_weights, loss_gradient, rows


def gradients(task: Task, source: object) -> list[np.ndarray]:
    """The gradient of each sample as a vector."""
    return [
        np.concatenate([g.numpy().ravel() for g in loss_gradient(task.model, x, y)])
        for x, y in rows(source)
    ]


def test_wood_fisher_equals_the_recursion_written_out(small: Task) -> None:
    of_forget, of_retain = (gradients(small, s) for s in (small.forget, small.retain))
    n_forget, n = len(of_forget), len(of_forget) + len(of_retain)
    # As published: Σ_f ∇ / N − N_f / (N · N_r) Σ_r ∇.
    k = sum(of_forget) / n - n_forget / (n * len(of_retain)) * sum(of_retain)
    o = None
    for g in of_retain:
        if o is None:
            o = g.copy()
            continue
        inner = o @ g
        k = k - (k @ g) / (5.0 + inner) * o
        o = o - inner / (5.0 + inner) * o
    result = WoodFisher(alpha=3.0, damping=5.0, chunk=7)(small)
    new = np.concatenate([p.detach().numpy().ravel() for p in result.parameters()])
    old = np.concatenate([p.detach().numpy().ravel() for p in small.model.parameters()])
    np.testing.assert_allclose(new, old + 3.0 * k, rtol=1e-9, atol=1e-12)
    assert np.abs(new - old).max() > 1e-2


def test_wood_fisher_takes_at_most_its_samples_and_leaves_frozen_weights(small: Task) -> None:
    small.model[0].weight.requires_grad_(False)  # type: ignore[index]
    meter = Engine(device="cpu")
    result = WoodFisher(samples=6)(replace(small, engine=meter))
    assert meter.meter.trained == 10 + 30 + 6
    assert torch.equal(result[0].weight, small.model[0].weight)  # type: ignore[index]
    whole = WoodFisher(samples=30, chunk=1)(small)
    close_weights(whole, WoodFisher(samples=10**6)(small), 1e-12)
