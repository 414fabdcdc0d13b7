"""`unsir` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.data.sources import JoinedSource, TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.unsir import UNSIR
from tests.numerics.method_toys import (
    SEED,
    accuracy,
    equal_weights,
    input_gradient,
    logits_by_hand,
)


def test_unsir_noise_is_adam_on_minus_ce_plus_penalty(small: Task) -> None:
    """Three Adam steps from the published start, every gradient by hand."""
    n, lam = 6, 0.1
    method = UNSIR(noise_samples=n, noise_steps=3, noise_lr=0.1, noise_penalty=lam)
    found = method.noise(small, 2)
    start = torch.randn(n, 6, generator=seeds.generator(SEED, "unsir", 2)).double().numpy()
    x, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t in range(1, 4):
        gradient = np.stack(
            [-input_gradient(small.model, row, 2) / n + lam * 2 * row / n for row in x]
        )
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(found.inputs.numpy(), x, rtol=1e-4, atol=1e-5)
    assert found.targets.tolist() == [2] * n and not found.inputs.requires_grad
    dropping = nn.Sequential(*small.model[:2], nn.Dropout(0.5), small.model[2])  # type: ignore[index,misc]
    assert torch.equal(method.noise(replace(small, model=dropping), 2).inputs, found.inputs), (
        "the model stays in eval mode"
    )
    far = UNSIR(noise_samples=n, noise_steps=40, noise_penalty=0.001).noise(small, 2).inputs.numpy()
    errors = [
        np.mean([-log_softmax(logits_by_hand(small.model, r))[2] for r in rows])
        for rows in (start, far)
    ]
    assert errors[1] > errors[0] + 0.4, "the noise maximises the error of its class"


def test_unsir_impairs_on_noise_and_retain_then_repairs(small: Task) -> None:
    method = UNSIR(
        noise_samples=4,
        noise_steps=3,
        repeats=3,
        retain_per_class=5,
        impair_lr=0.02,
        repair_lr=0.01,
        repair_epochs=2,
        batch_size=8,
    )
    result = method(
        replace(small, forget=TensorSource(torch.zeros(1, 6).double(), torch.tensor([2])))
    )
    sample, noise = method.sample(small), method.noise(small, 2)
    assert sorted(sample.labels().tolist()) == [0] * 5 + [1] * 5 + [3] * 5
    seen = JoinedSource((sample, noise.subset(np.tile(np.arange(4), 3))))
    hand = copy.deepcopy(small.model)
    impair, repair = (torch.optim.Adam(hand.parameters(), lr=lr) for lr in (0.02, 0.01))
    order = seeds.generator(SEED, "order", "repair", 0)
    plan = [(impair, list(seen.batches(8, seeds.generator(SEED, "order", "impair", 0))))]
    plan.append((repair, [b for _ in range(2) for b in sample.batches(8, order)]))
    assert (
        sum(len(b.labels) for b in plan[0][1]) == 27
        and sum(int((b.labels == 2).sum()) for b in plan[0][1]) == 12
    )
    for step, batches in plan:
        for batch in batches:
            step.zero_grad()
            nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
            step.step()
    equal_weights(result, hand, small.model)


def test_unsir_may_impair_with_a_few_of_its_noise_inputs(small: Task) -> None:
    seen: list[int] = []

    def counting(model: nn.Module, phases: Any) -> Any:
        seen.extend(len(phase.sources[0]) for phase in phases if phase.name == "impair")
        return phases

    watched = replace(small, engine=small.engine.changing(counting))
    settings = {"noise_samples": 6, "noise_steps": 2, "repeats": 5, "retain_per_class": 4}
    for count in (3, 60, None):
        UNSIR(impair_samples=count, **settings)(watched)
    assert seen == [12 + 5 * 3, 12 + 5 * 6, 12 + 5 * 6]


def test_unsir_may_learn_noise_with_the_batchs_own_statistics(convolutions: Task) -> None:
    """One step by hand: the sign of Adam's first step is that of the gradient in train mode."""
    before = copy.deepcopy(convolutions.model.state_dict())
    start = torch.randn(6, 1, 4, 4, generator=seeds.generator(SEED, "unsir", 2)).double()
    for norm in ("train", "frozen"):
        method = UNSIR(noise_samples=6, noise_steps=1, noise_norm=norm)
        found = method.noise(convolutions, 2).inputs
        x, model = start.clone().requires_grad_(), convolutions.student()
        model.train(norm == "train")
        loss = -nn.functional.cross_entropy(model(x), torch.full((6,), 2))
        loss = loss + 0.1 * x.square().flatten(1).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, x)
        torch.testing.assert_close(found, start - 0.1 * gradient.sign(), rtol=1e-3, atol=1e-3)
    after = convolutions.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_unsir_forgets_and_refuses(task: Task, small: Task) -> None:
    result = UNSIR()(task)
    assert accuracy(task, result, task.forget) < 0.3 and accuracy(task, result, task.retain) > 0.9  # type: ignore[arg-type]
    with pytest.raises(Refused, match="forgotten as a whole"):
        UNSIR()(replace(small, forgotten_classes=()))
    whole = TensorSource(torch.zeros(8, 6, dtype=torch.long), torch.arange(8) % 2)
    with pytest.raises(Refused, match="real-valued"):
        UNSIR()(replace(small, retain=whole))
