"""`head_distill` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Task
from eigenforget.methods.head_distill import HeadDistill
from tests.numerics.method_toys import SEED, accuracy, changed, equal_weights


def test_head_distill_moves_the_head_and_not_one_other_bit(task: Task) -> None:
    result = HeadDistill()(task)
    assert changed(result, task.model) == {"fc.weight", "fc.bias"}
    for source in (task.forget, task.retain):
        pairs = zip(
            task.engine.forward(result, source),
            task.engine.forward(task.model, source),
            strict=True,
        )  # type: ignore[arg-type]
        assert all(torch.equal(a.features, b.features) for (_, a), (_, b) in pairs)
    assert accuracy(task, result, task.forget) == 0 and accuracy(task, result, task.retain) > 0.98  # type: ignore[arg-type]


def test_head_distill_is_kl_to_the_masked_original(small: Task) -> None:
    result = HeadDistill(epochs=2, lr=0.2, batch_size=8)(small)
    hand = copy.deepcopy(small.model)
    mixed = JoinedSource((small.forget, small.retain))  # type: ignore[arg-type]
    step = torch.optim.SGD(hand[2].parameters(), lr=0.2, momentum=0.9, nesterov=True)  # type: ignore[index]
    count = 0
    for cycle in range(2):
        for batch in mixed.batches(8, seeds.generator(SEED, "order", "distil", cycle)):
            cut = small.model(batch.inputs).detach().numpy()
            cut[:, 2] = -np.inf
            q = torch.as_tensor(softmax(cut, axis=1))
            step.param_groups[0]["lr"] = 0.2 * 0.5 * (1 + math.cos(math.pi * count / 10))
            step.zero_grad()
            (-(q * torch.log_softmax(hand(batch.inputs), 1)).sum(1).mean()).backward()
            step.step()
            count += 1
    assert count == 10
    equal_weights(result, hand, small.model)
    assert changed(result, small.model) == {"2.weight", "2.bias"}
    with pytest.raises(Refused, match="forgotten as a whole"):
        HeadDistill()(replace(small, forgotten_classes=()))
