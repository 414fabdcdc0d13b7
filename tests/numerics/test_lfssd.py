"""`lfssd` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.lfssd import LFSSD
from tests.numerics.method_toys import close_weights, rows


def mean_change(task: Task, data: list[tuple[Tensor, int]], size: int) -> list[np.ndarray]:
    """Mean over batches of |∇ mean ‖f(x)‖²|."""
    found = []
    for start in range(0, len(data), size):
        x = torch.stack([x for x, _ in data[start : start + size]])
        norms = (task.model(x) ** 2).sum() / len(x)
        gradient = torch.autograd.grad(norms, list(task.model.parameters()))
        found.append([g.abs().numpy() for g in gradient])
    return [np.mean([f[i] for f in found], axis=0) for i in range(4)]


@pytest.mark.parametrize(("estimator", "size"), [("sample", 1), ("batch", 7)])
def test_lfssd_equals_the_formula_weight_by_weight(estimator: str, size: int, small: Task) -> None:
    method = LFSSD(alpha=1.1, dampening=0.5, estimator=estimator, batch_size=7)
    of_forget = mean_change(small, rows(small.forget), size)
    of_all = mean_change(small, rows(small.retain) + rows(small.forget), size)
    result, chosen = method(small), 0
    for p, o, f, d in zip(
        result.parameters(), small.model.parameters(), of_forget, of_all, strict=True
    ):
        expected = np.where(f > 1.1 * d, np.minimum(0.5 * d / f, 1), 1) * o.detach().numpy()
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9)
        chosen += int((f > 1.1 * d).sum())
    assert chosen > 3


def test_lfssd_needs_no_labels(small: Task) -> None:
    def unlabelled(source: object) -> TensorSource:
        inputs = source.inputs  # type: ignore[attr-defined]
        return TensorSource(inputs, torch.zeros(len(inputs), dtype=torch.long))

    bare = replace(small, forget=unlabelled(small.forget), retain=unlabelled(small.retain))
    close_weights(LFSSD(alpha=1.1)(bare), LFSSD(alpha=1.1)(small), 0.0)
