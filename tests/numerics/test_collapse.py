"""`collapse` against its own formula, written out again by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from eigenforget.methods.base import Task
from eigenforget.methods.collapse import Collapse
from tests.numerics.method_toys import accuracy


def test_collapse_ruins_the_model_and_stays_finite(task: Task) -> None:
    result = Collapse()(replace(task, retain=None))
    assert all(torch.isfinite(v).all() for v in result.state_dict().values())
    assert all(torch.isfinite(o.logits).all() for _, o in task.engine.forward(result, task.forget))
    assert accuracy(task, result, task.forget) <= 0.1 and accuracy(task, result, task.retain) < 0.3  # type: ignore[arg-type]


def test_collapse_is_clipped_ascent(small: Task) -> None:
    result = Collapse(steps=1, lr=0.5, momentum=0.0, clip=0.25, batch_size=10)(small)
    x, y = small.forget.inputs, small.forget.targets  # type: ignore[attr-defined]
    found = torch.autograd.grad(
        nn.functional.cross_entropy(small.model(x), y), list(small.model.parameters())
    )
    norm = math.sqrt(sum(float(g.square().sum()) for g in found))
    assert norm > 0.25
    for a, b, g in zip(result.parameters(), small.model.parameters(), found, strict=True):
        torch.testing.assert_close(a, b + 0.5 * 0.25 / norm * g, rtol=1e-4, atol=1e-6)
