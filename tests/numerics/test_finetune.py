"""`finetune` against its own formula, written out again by hand."""

from __future__ import annotations

import copy

import torch
from torch import nn

from eigenforget.core import seeds
from eigenforget.methods import Finetune
from eigenforget.methods.base import Task


def test_finetune_is_sgd_on_the_retained_data_only(small: Task) -> None:
    method = Finetune(epochs=2, batch_size=8, lr=0.1, schedule="constant", weight_decay=0.01)
    result, hand = method(small), copy.deepcopy(small.model)
    torch_sgd = torch.optim.SGD(
        hand.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    )
    for cycle in range(2):
        for batch in small.retain.batches(8, seeds.generator(3, "order", "recover", cycle)):  # type: ignore[union-attr]
            torch_sgd.zero_grad()
            nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
            torch_sgd.step()
    for a, b in zip(result.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
