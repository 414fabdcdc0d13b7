"""Fields that methods share: their defaults, and the optimizer that they describe."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.methods import METHODS, Finetune
from eigenforget.methods.base import Task, optimizer_of
from eigenforget.methods.fields import SGDFields

# momentum, nesterov, weight_decay, schedule, batch_size. Numbers of existing runs hang on them.
DEFAULTS = {
    "finetune": (0.9, True, 5e-4, "cosine", 128),
    "gradient_ascent": (0.9, True, 0.0, "constant", 64),
    "neg_grad_plus": (0.9, True, 5e-4, "cosine", 128),
    "random_label": (0.9, True, 5e-4, "cosine", 128),
    "scrub": (0.9, True, 5e-4, "cosine", 128),
    "l1_sparse": (0.9, True, 5e-4, "cosine", 128),
    "boundary_shrink": (0.9, True, 0.0, "constant", 128),
    "boundary_expand": (0.9, True, 0.0, "constant", 128),
    "delete": (0.9, True, 0.0, "constant", 128),
    "not_": (0.9, True, 5e-4, "cosine", 128),
    "cf_k": (0.9, True, 5e-4, "cosine", 128),
    "eu_k": (0.9, True, 5e-4, "onecycle", 128),
    "unseen_distill": (0.9, True, 5e-4, "cosine", 128),
    "msg": (0.9, True, 5e-4, "triangle", 64),
    "ct": (0.9, True, 5e-4, "cosine", 64),
    "munba": (0.9, True, 5e-4, "cosine", 128),
    "amun": (0.9, True, 5e-4, "cosine", 128),
    "jit": (0.0, True, 0.0, "constant", 128),
}


def shared(kind: Any) -> bool:
    return issubclass(kind, SGDFields)


@pytest.mark.parametrize("kind", filter(shared, METHODS.own), ids=lambda kind: kind.name)
def test_defaults_are_those_of_earlier_runs_and_all_reach_the_optimizer(kind: Any) -> None:
    method = kind()
    names = ("momentum", "nesterov", "weight_decay", "schedule", "batch_size")
    if kind.name in DEFAULTS:
        assert tuple(getattr(method, name) for name in names) == DEFAULTS[kind.name]
    optimizer = optimizer_of(dataclasses.replace(method, nesterov=False, momentum=0.4))
    assert (optimizer.nesterov, optimizer.momentum) == (False, 0.4)
    assert optimizer.schedule == method.schedule and optimizer.lr == method.lr


def test_every_method_with_these_defaults_still_shares_the_fields() -> None:
    assert set(DEFAULTS) <= {kind.name for kind in METHODS.own if shared(kind)}


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_is_plain_or_nesterov(nesterov: bool, task: Task) -> None:
    retain = task.needs_retain("")
    whole = next(retain.batches(len(retain)))
    given = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01}
    method = Finetune(epochs=3, batch_size=len(retain), schedule="constant", **given)
    result, hand = method(task), task.student().train()
    sgd = torch.optim.SGD(hand.parameters(), **given)
    for _ in range(3):
        sgd.zero_grad()
        nn.functional.cross_entropy(hand(whole.inputs), whole.labels).backward()
        sgd.step()
    for a, b in zip(result.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
