"""`potion` against its own formula, written out again by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eigenforget.core.errors import Refused
from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.potion import Potion
from tests.numerics.method_toys import accuracy, rows


def importance(task: Task, source: Any, size: int) -> list[np.ndarray]:
    """Mean |∂ mean ‖f‖₂| over groups of samples, by parameter."""
    inputs = [x for x, _ in rows(source)]
    total = [np.zeros(tuple(p.shape)) for p in task.model.parameters()]
    groups = [torch.stack(inputs[i : i + size]) for i in range(0, len(inputs), size)]
    for group in groups:
        norms = torch.sqrt((task.model(group) ** 2).sum(1)).mean()
        for part, g in zip(
            total, torch.autograd.grad(norms, list(task.model.parameters())), strict=True
        ):
            part += np.abs(g.numpy()) / len(groups)
    return total


def learnt(task: Task) -> Task:
    """The forget set with the labels that the model gives: an accuracy of 1 at first."""
    forget = task.forget
    with torch.no_grad():
        labels = task.model(forget.inputs).argmax(1)  # type: ignore[attr-defined]
    return replace(task, forget=TensorSource(forget.inputs, labels), forgotten_classes=())  # type: ignore[attr-defined]


@pytest.mark.parametrize("estimator", ["sample", "batch"])
def test_potion_dampens_more_from_try_to_try(estimator: str, shallow: Task) -> None:
    task, size = learnt(shallow), 4 if estimator == "batch" else 1
    method = Potion(keep=0.95, estimator=estimator, batch_size=4)
    result = method(task)
    of_forget, of_retain = (importance(task, s, size) for s in (task.forget, task.retain))
    ratios = np.concatenate([(f / r).ravel() for f, r in zip(of_forget, of_retain, strict=True)])
    share, tries = 10 / 40 / 25, 0
    while True:
        alpha = np.percentile(ratios, 100 - math.log(1 + 100 * share))
        hand = task.student()
        with torch.no_grad():
            for p, f, r in zip(hand.parameters(), of_forget, of_retain, strict=True):
                p *= torch.as_tensor(np.where(f > alpha * r, np.minimum(r / f, 1), 1))
        tries += 1
        if accuracy(task, hand, task.forget) <= 0.95:  # type: ignore[arg-type]
            break
        share *= 1.1
    assert tries > 1, "the test needs a search"
    for a, b in zip(result.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_a_search_without_end_is_refused(shallow: Task) -> None:
    with pytest.raises(Refused, match=r"potion did not bring .* down to 0.95 in 1 tries"):
        Potion(keep=0.95, tries=1)(learnt(shallow))
