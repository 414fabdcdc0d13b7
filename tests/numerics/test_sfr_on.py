"""`sfr_on` against its own formula, written out again by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.methods.base import Task
from eigenforget.methods.sfr_on import SFRon, adaptive_mean
from tests.numerics.method_toys import batches, equal_weights, loss_gradient, rows


def test_the_weight_of_a_sample_falls_with_its_loss() -> None:
    losses = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    value = adaptive_mean(losses, 0.5)
    weights = np.array([0.5, 2.0, 4.0]) ** -0.5
    assert value.item() == pytest.approx((weights @ [0.5, 2.0, 4.0]) / weights.sum())
    (gradient,) = torch.autograd.grad(value, losses)
    np.testing.assert_allclose(gradient, weights / weights.sum())  # the weights are constants
    assert adaptive_mean(losses, 0.0).item() == pytest.approx(6.5 / 3)


def fisher(task: Task, source: object, size: int) -> list[np.ndarray]:
    """Mean squares of the gradients of batch means, in the order of the source."""
    singles = [[g.numpy() for g in loss_gradient(task.model, x, y)] for x, y in rows(source)]
    groups = [singles[i : i + size] for i in range(0, len(singles), size)]
    means = [[np.mean([s[n] for s in g], axis=0) for n in range(len(g[0]))] for g in groups]
    return [np.mean([m[n] ** 2 for m in means], axis=0) for n in range(len(means[0]))]


@pytest.mark.parametrize("estimator", ["sample", "batch"])
def test_the_mask_is_where_the_forget_set_matters_more(estimator: str, shallow: Task) -> None:
    method = SFRon(threshold=0.8, estimator=estimator, batch_size=4)
    size = 4 if estimator == "batch" else 1
    sides = (fisher(shallow, s, size) for s in (shallow.forget, shallow.retain))
    mask = method.mask(shallow, shallow.student())
    for found, forget, retain in zip(mask.values(), *sides, strict=True):
        assert np.array_equal(found.numpy() == 1, forget / retain >= 0.8)
    assert 0 < sum(float(m.sum()) for m in mask.values()) < sum(m.numel() for m in mask.values())


def test_sfr_on_is_its_algorithm_written_out(shallow: Task) -> None:
    method = SFRon(
        forget_steps=3, retain_steps=2, alpha=1.5, adaptive=0.5, threshold=0.9, lr=0.05, clip=0.4,
        momentum=0.9, nesterov=False, weight_decay=0.01, schedule="cosine", batch_size=4,
    )  # fmt: skip
    hand = shallow.student()
    mask = method.mask(shallow, hand)
    step = torch.optim.SGD(hand.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for number in range(3):
        forget = batches(shallow.forget, 4, "forget", number)[0]
        retain = batches(shallow.retain, 4, "recover", number)[:2]
        for part, batch in enumerate([forget, *retain]):
            done = (number * 2 + max(0, part - 1)) / 6
            step.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * done)) / 2
            step.zero_grad()
            losses = nn.functional.cross_entropy(hand(batch.inputs), batch.labels, reduction="none")
            if part == 0:
                weights = losses.detach() ** -0.5
                factor = 1.5 * (1 + math.cos(math.pi * number / 3)) / 2
                (-factor * (weights * losses).sum() / weights.sum()).backward()
                for name, p in hand.named_parameters():
                    p.grad *= mask[name]
                nn.utils.clip_grad_norm_(hand.parameters(), 0.4)
            else:
                losses.mean().backward()
            step.step()
    equal_weights(method(shallow), hand, shallow.model)
