"""`random_label` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eigenforget.core.errors import Refused
from eigenforget.data.sources import TensorSource
from eigenforget.methods import RandomLabel
from eigenforget.methods.base import Task


def test_random_labels_are_wrong_retained_and_uniform(task: Task) -> None:
    labels = RandomLabel().labels(task)
    assert len(labels) == len(task.forget) and not (labels == 3).any()
    many = TensorSource(torch.zeros(9000, 1), torch.full((9000,), 3))
    counts = torch.bincount(RandomLabel().labels(replace(task, forget=many)), minlength=10)
    assert counts[3] == 0 and (counts[counts > 0] - 1000).abs().max() < 150  # 5 standard deviations
    own = TensorSource(torch.zeros(500, 1), torch.arange(500) % 10)
    drawn = RandomLabel().labels(replace(task, forget=own, retain=own, forgotten_classes=()))
    assert not (drawn == own.targets).any() and set(drawn.tolist()) == set(range(10))
    with pytest.raises(Refused, match="second class"):
        RandomLabel().labels(
            replace(task, forget=own, num_classes=10, forgotten_classes=tuple(range(9)))
        )


def test_random_label_trains_towards_its_labels(task: Task) -> None:
    method = RandomLabel(epochs=10, lr=0.1)
    result = method(task)
    with torch.no_grad():
        predicted = result(task.forget.inputs).argmax(1)  # type: ignore[attr-defined]
    agreement = (predicted == method.labels(task)).double().mean().item()
    assert agreement > 0.3, "chance is 1/9"
