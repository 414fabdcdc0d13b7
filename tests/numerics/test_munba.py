"""`munba` against its own formula, written out again by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from eigenforget.core import seeds
from eigenforget.methods.base import Task
from eigenforget.methods.munba import MUNBa, bargain
from tests.numerics.method_toys import SEED, batches, equal_weights


@pytest.mark.parametrize("seed", range(4))
def test_the_bargain_is_the_nash_solution(seed: int) -> None:
    """It solves Gᵀ G α = 1 / α, and its direction maximises the product of the gains."""
    g = torch.randn(2, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha = np.array([float(a) for a in bargain(g[0], forget=g[1])])
    gains = (g @ g.T).numpy() @ alpha
    np.testing.assert_allclose(gains, 1 / alpha, rtol=1e-10)
    rows = g.numpy()

    def loss(d: np.ndarray) -> float:
        both = rows @ (d / np.linalg.norm(d))
        return -float(np.log(np.maximum(both, 1e-300)).sum())

    best = minimize(loss, (rows / np.linalg.norm(rows, axis=1)[:, None]).sum(0), method="Nelder-Mead",
                    options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 20000}).x  # fmt: skip
    direction = alpha @ rows
    np.testing.assert_allclose(
        best / np.linalg.norm(best), direction / np.linalg.norm(direction), atol=1e-5
    )


def test_it_is_the_published_closed_form() -> None:
    g = torch.randn(2, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    g1, g2, g3 = float(g[0] @ g[0]), float(g[0] @ g[1]), float(g[1] @ g[1])
    both = np.sqrt(g1 * g3)
    retain = np.sqrt((g1 * g3 - g2 * both) / (g1 * g1 * g3 - g1 * g2 * g2))
    forget = (1 - g1 * retain**2) / (g2 * retain)
    np.testing.assert_allclose(
        [float(a) for a in bargain(g[0], forget=g[1])], [retain, forget], rtol=1e-10
    )


@pytest.mark.parametrize("opposed", [torch.zeros(4), -3 * torch.ones(4)])
def test_where_there_is_no_bargain_the_losses_are_weighted(opposed: torch.Tensor) -> None:
    found = bargain(torch.ones(4), forget=opposed)
    assert [float(a) for a in found] == pytest.approx([1.0, 0.1])


def test_munba_is_its_algorithm_written_out(shallow: Task) -> None:
    method = MUNBa(
        epochs=2, lr=0.03, batch_size=4, nesterov=False, weight_decay=0.01, clip=0.5,
        schedule="constant", candidates="all",
    )  # fmt: skip
    hand, drawn = shallow.student(), seeds.generator(SEED, "random_label")
    weights = list(hand.parameters())
    torch.multinomial(torch.ones(10, 4, dtype=torch.float64), 1, generator=drawn)
    step = torch.optim.SGD(weights, lr=0.03, momentum=0.9, weight_decay=0.01)
    for epoch in range(2):
        order = seeds.generator(SEED, "order", "forget", epoch)
        leading, beside = shallow.forget.batches(4, order), shallow.retain.batches(4, order)  # type: ignore[union-attr]
        for _ in range(3):
            forget = next(leading)
            retain = next(beside)
            labels = torch.multinomial(
                torch.ones(len(forget.labels), 4, dtype=torch.float64), 1, generator=drawn
            ).squeeze(1)
            losses = [
                nn.functional.cross_entropy(hand(retain.inputs), retain.labels),
                nn.functional.cross_entropy(hand(forget.inputs), labels),
            ]
            grads = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
            kept, gone = (torch.cat([p.flatten() for p in g]) for g in grads)
            alpha = bargain(kept, forget=gone)
            step.zero_grad()
            (float(alpha[0]) * losses[0] + float(alpha[1]) * losses[1]).backward()
            nn.utils.clip_grad_norm_(weights, 0.5)
            step.step()
        for batch in batches(shallow.retain, 4, "recover", epoch)[:5]:
            step.zero_grad()
            nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
            step.step()
    equal_weights(method(shallow), hand, shallow.model)
