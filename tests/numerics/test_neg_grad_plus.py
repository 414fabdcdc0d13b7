"""`neg_grad_plus` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from eigenforget.core import seeds
from eigenforget.data.sources import Source
from eigenforget.methods.base import Task
from eigenforget.methods.neg_grad_plus import NegGradPlus
from tests.numerics.method_toys import Sgd, ce, equal_states, source


def neg_grad_plus_by_hand(
    task: Task, method: NegGradPlus, weights: tuple[float, float]
) -> nn.Module:
    hand = copy.deepcopy(task.model)
    sgd = Sgd(hand)
    for cycle in range(method.epochs):
        order = seeds.generator(3, "order", "retain and forget", cycle)
        # The engine draws the order of the forget data at the first step's second batch, that is,
        # after the retained data's.
        size = method.forget_batch_size or method.batch_size
        forget = endless(task.forget, size, order)
        for kept in task.retain.batches(method.batch_size, order):  # type: ignore[union-attr]
            loss = weights[0] * ce(hand, kept) - weights[1] * ce(hand, next(forget))
            sgd.step(loss, lr=method.lr, decay=method.weight_decay, clip=method.clip)
    return hand


def endless(data: Source, size: int, order: torch.Generator) -> Iterator[Any]:
    while True:
        yield from data.batches(size, order)


def test_neg_grad_plus_weighs_descent_and_ascent(shallow: Task) -> None:
    method = NegGradPlus(
        epochs=2, alpha=0.7, batch_size=7, lr=0.05, schedule="constant", clip=0.5, weight_decay=0.01
    )
    result = method(shallow)
    equal_states(result, neg_grad_plus_by_hand(shallow, method, (0.7, 0.3)), shallow.model)
    without = NegGradPlus(
        epochs=2, alpha=1.0, batch_size=7, lr=0.05, schedule="constant", clip=0.5, weight_decay=0.01
    )
    other_data = replace(shallow, forget=source(10, (2,), 77))
    # At α = 1 the forget data has no weight at all.
    equal_states(
        without(other_data), neg_grad_plus_by_hand(shallow, without, (1.0, 0.0)), shallow.model
    )


def test_neg_grad_plus_takes_forget_batches_of_their_own_size(shallow: Task) -> None:
    method = NegGradPlus(
        epochs=2, alpha=0.7, batch_size=7, forget_batch_size=3, lr=0.05, schedule="constant"
    )
    equal_states(method(shallow), neg_grad_plus_by_hand(shallow, method, (0.7, 0.3)), shallow.model)
