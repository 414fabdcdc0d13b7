"""`uam` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.methods import CMF, UAM, Finetune, HeadMask, Masked
from eigenforget.methods.base import Task
from eigenforget.models import checkpoint
from tests.numerics.method_toys import SEED, batches, equal_weights


def test_uam_is_its_algorithm_written_out(shallow: Task) -> None:
    inner = Finetune(
        epochs=2, lr=0.05, batch_size=8, nesterov=False, weight_decay=0.01, schedule="constant"
    )
    method, hand, order = UAM(inner=inner, rho=0.5, batch_size=4), shallow.student(), None
    order = seeds.generator(SEED, "uam")
    step = torch.optim.SGD(hand.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    parts: list[torch.Tensor] = []
    for epoch in range(2):
        for batch in batches(shallow.retain, 8, "recover", epoch):
            parts = parts or list(torch.randperm(10, generator=order).split(4))
            rows = parts.pop(0)
            x, y = shallow.forget.inputs[rows], shallow.forget.targets[rows]  # type: ignore[attr-defined]
            weights = list(hand.parameters())
            grads = torch.autograd.grad(nn.functional.cross_entropy(hand(x), y), weights)
            length = torch.sqrt(sum((g**2).sum() for g in grads))  # type: ignore[arg-type]
            above = copy.deepcopy(hand)
            with torch.no_grad():
                for p, g in zip(above.parameters(), grads, strict=True):
                    p += 0.5 * g / length
            loss = nn.functional.cross_entropy(above(batch.inputs), batch.labels)
            for p, g in zip(
                weights, torch.autograd.grad(loss, list(above.parameters())), strict=True
            ):
                p.grad = g
            step.step()
    equal_weights(method(shallow), hand, shallow.model)


def test_with_a_tiny_ascent_it_is_the_inner_method(shallow: Task) -> None:
    inner = Finetune(epochs=1, lr=0.05)
    plain, near = inner(shallow), UAM(inner=inner, rho=1e-9)(shallow)
    for a, b in zip(plain.parameters(), near.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_it_stands_inside_and_around_other_wrappers(shallow: Task) -> None:
    inner = Finetune(epochs=1, lr=0.05, batch_size=8)
    fixed = Masked(inner=UAM(inner=inner, rho=0.5), keep_top=0.3)(shallow)
    moved = [
        (a != b).sum() for a, b in zip(fixed.parameters(), shallow.model.parameters(), strict=True)
    ]
    total = sum(p.numel() for p in fixed.parameters())
    assert 0 < int(sum(moved)) <= round(0.3 * total)
    around = UAM(inner=Masked(inner=inner, keep_top=0.3), rho=0.5)(shallow)
    assert checkpoint.model_digest(around) != checkpoint.model_digest(inner(shallow))


def test_what_uam_cannot_stand_around_is_an_error(shallow: Task) -> None:
    for wrong in (CMF(), HeadMask()):
        with pytest.raises(EigenforgetError, match="uam: inner"):
            UAM(inner=wrong)
    with pytest.raises(Refused, match="uam needs retain data"):
        UAM()(replace(shallow, retain=None))
