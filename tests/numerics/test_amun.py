"""`amun` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import JoinedSource, TensorSource
from eigenforget.methods.amun import AMUN
from eigenforget.methods.base import Task
from tests.numerics.method_toys import SEED, equal_weights, task_of


def linear() -> Task:
    """Two classes, whose boundary is the plane w · x = 0, and a margin of w · x = ±0.3 or more."""
    model = nn.Sequential(nn.Linear(3, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0, 2.0], [-1.0, -2.0, -2.0]]) / 2)
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x @ torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64) < 0).long()
    sides = TensorSource(x[:6], y[:6]), TensorSource(x[6:], y[6:])
    return replace(task_of(model, *sides, gone=()), num_classes=2)


def test_examples_of_a_linear_model_lie_just_behind_its_boundary() -> None:
    """A theorem: the gradient is the normal, so that the path is the shortest one."""
    task, method = linear(), AMUN(radius=0.1, steps=50)
    found = method.examples(task)
    assert found.found.all() and (found.labels == 1 - task.forget.targets).all()  # type: ignore[attr-defined]
    inputs = task.forget.inputs.numpy()  # type: ignore[attr-defined]
    normal = np.array([1.0, 2.0, 2.0]) / 3
    distance = np.abs(inputs @ normal)
    for x, moved, away in zip(inputs, found.inputs.numpy(), distance, strict=True):
        path = moved - x
        length = np.linalg.norm(path)
        radius = 0.1 * 2 ** max(0, np.ceil(np.log2(away / 0.1)))
        assert away < length <= away + radius / 10
        np.testing.assert_allclose(abs(path @ normal), length)


def test_a_sample_that_is_wrong_already_is_its_own_example() -> None:
    task = linear()
    wrong = TensorSource(task.forget.inputs, 1 - task.forget.targets)  # type: ignore[attr-defined]
    found = AMUN().examples(replace(task, forget=wrong))
    assert torch.equal(found.inputs, wrong.inputs) and (found.labels != wrong.targets).all()


def test_no_example_is_given_a_forgotten_class(shallow: Task) -> None:
    task = replace(shallow, forgotten_classes=(1, 2))
    found = AMUN().examples(task)
    assert found.found.any() and set(found.labels[found.found].tolist()) <= {0, 3}


def test_samples_without_an_example_are_said() -> None:
    task = linear()
    near = int(np.argsort(np.abs(task.forget.inputs.numpy().sum(1)))[0])  # type: ignore[attr-defined]
    distance = abs(float(task.forget.inputs[near] @ torch.tensor([1.0, 2, 2]).double())) / 3  # type: ignore[attr-defined]
    few = AMUN(radius=distance * 1.2, doublings=1, epochs=1)
    with pytest.warns(EigenforgetWarning, match=r"of 6 forget samples have no adversarial"):
        few(task)
    with pytest.raises(Refused, match="found no adversarial example of any forget sample"):
        AMUN(radius=1e-6, doublings=1)(task)


@pytest.mark.parametrize("forget_samples", [True, False])
@pytest.mark.parametrize("retain", [True, False])
def test_amun_trains_on_all_of_them_mixed(
    forget_samples: bool, retain: bool, shallow: Task
) -> None:
    method = AMUN(
        epochs=2, lr=0.05, batch_size=8, nesterov=False, weight_decay=0.01, schedule="constant",
        forget_samples=forget_samples,
    )  # fmt: skip
    task = shallow if retain else replace(shallow, retain=None)
    found, hand = method.examples(task), task.student()
    parts = [TensorSource(found.inputs, found.labels)]
    if forget_samples:
        parts.insert(0, task.forget)  # type: ignore[arg-type]
    if retain:
        parts.insert(0, task.retain)  # type: ignore[arg-type]
    step = torch.optim.SGD(hand.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for epoch in range(2):
        order = seeds.generator(SEED, "order", "adversarial", epoch)
        for batch in JoinedSource(tuple(parts)).batches(8, order):
            step.zero_grad()
            nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
            step.step()
    equal_weights(method(task), hand, task.model)
