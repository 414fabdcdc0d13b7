"""`boundary_shrink` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.boundary_shrink import BoundaryShrink
from tests.numerics.method_toys import (
    equal_weights,
    input_gradient,
    logits_by_hand,
    trained_by_hand,
)


def nearest_by_hand(task: Task, step: float, gone: tuple[int, ...]) -> list[int]:
    found = []
    for x, y in zip(task.forget.inputs.numpy(), task.forget.labels(), strict=True):  # type: ignore[attr-defined]
        moved = x + step * np.sign(input_gradient(task.model, x, int(y)))
        scores = logits_by_hand(task.model, moved)
        found.append(
            max((c for c in range(4) if c != y and c not in gone), key=lambda c: scores[c])
        )
    return found


def test_boundary_shrink_labels_are_the_best_wrong_class_after_the_step(small: Task) -> None:
    step = 1.5
    want = nearest_by_hand(small, step, (2,))
    assert BoundaryShrink(step=step, batch_size=4).labels(small).tolist() == want
    assert want != nearest_by_hand(small, 1e-9, (2,)) and want != nearest_by_hand(
        small, -step, (2,)
    ), "the step must matter"
    mixed = replace(
        small, forget=TensorSource(small.retain.inputs, small.retain.targets), forgotten_classes=()
    )  # type: ignore[union-attr]
    for size in (
        step,
        1e-6,
    ):  # the tiny step leaves many samples on their own side, where the runner-up counts
        want = nearest_by_hand(mixed, size, ())
        found = BoundaryShrink(step=size).labels(mixed)
        assert (
            found.tolist() == want
            and set(want) == {0, 1, 2, 3}
            and not (found == mixed.forget.targets).any()
        )  # type: ignore[attr-defined]


def test_boundary_shrink_trains_towards_these_labels(small: Task) -> None:
    method = BoundaryShrink(step=1.5, epochs=2, lr=0.1, weight_decay=0.01, batch_size=4)
    labels = torch.tensor(nearest_by_hand(small, 1.5, (2,)))

    def loss(model: nn.Module, x: Tensor, y: Tensor, positions: Tensor) -> Tensor:
        log_p = torch.log(torch.softmax(model(x), 1))
        return -torch.stack([log_p[i, labels[p]] for i, p in enumerate(positions.tolist())]).mean()

    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    hand = trained_by_hand(small, loss, phase="forget", epochs=2, batch_size=4, sgd=sgd)
    equal_weights(method(replace(small, retain=None)), hand, small.model)


def test_boundary_shrink_refusals(small: Task) -> None:
    whole = TensorSource(torch.zeros(4, 6, dtype=torch.long), torch.full((4,), 2))
    with pytest.raises(Refused, match="real-valued"):
        BoundaryShrink().labels(replace(small, forget=whole))
    with pytest.raises(Refused, match="second class"):
        BoundaryShrink().labels(replace(small, forget=small.retain, forgotten_classes=(1, 2, 3)))  # type: ignore[arg-type]
    assert BoundaryShrink().labels(replace(small, forgotten_classes=(1, 2, 3))).tolist() == [0] * 10
