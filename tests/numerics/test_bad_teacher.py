"""`bad_teacher` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from eigenforget.core import seeds
from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.methods.bad_teacher import BadTeacher
from eigenforget.methods.base import Task
from eigenforget.models import checkpoint
from eigenforget.training import engine
from eigenforget.training.engine import Meter
from tests.numerics.method_toys import batches, changed, equal_states, kl, watched


def bad_teacher_by_hand(task: Task, method: BadTeacher) -> nn.Module:
    """Adam on the KL divergence from one teacher or the other, sample by sample."""
    order = torch.randperm(30, generator=seeds.generator(3, "bad_teacher", "retain"))[
        : round(30 * method.retain_share)
    ]
    parts: list[Any] = [task.forget, task.retain.subset(order.numpy())]  # type: ignore[union-attr]
    mixed = TensorSource(
        torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    )
    bad, hand, t = copy.deepcopy(task.model), copy.deepcopy(task.model), method.temperature
    torch.manual_seed(seeds.derive(3, "bad_teacher"))
    for layer in (bad[2], bad[0]):  # type: ignore[index]
        layer.reset_parameters()
    parameters = list(hand.parameters())
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    step = 0
    for cycle in range(method.epochs):
        for batch in batches(mixed, method.batch_size, "teach", cycle):
            rows = []
            for x, position in zip(batch.inputs, batch.positions.tolist(), strict=True):
                teacher = bad if position < 10 else task.model
                rows.append(torch.softmax(teacher(x[None]).detach() / t, 1)[0])
            grads = torch.autograd.grad(kl(torch.stack(rows), hand(batch.inputs) / t), parameters)
            step += 1
            with torch.no_grad():
                for p, g, a, b in zip(parameters, grads, m, v, strict=True):
                    a.mul_(0.9).add_(0.1 * g)
                    b.mul_(0.999).add_(0.001 * g**2)
                    p.sub_(
                        method.lr * (a / (1 - 0.9**step)) / ((b / (1 - 0.999**step)).sqrt() + 1e-8)
                    )
    return hand


def test_bad_teacher_teaches_each_sample_by_its_teacher(shallow: Task) -> None:
    method = BadTeacher(epochs=2, lr=0.02, temperature=2.0, retain_share=0.5, batch_size=6)
    seen = watched(shallow)
    result = method(seen)
    equal_states(result, bad_teacher_by_hand(shallow, method), shallow.model)
    incompetent, competent = seen.__dict__["lent"]
    assert checkpoint.model_digest(competent) == checkpoint.model_digest(shallow.model)
    assert changed(incompetent, shallow.model) == set(shallow.model.state_dict())
    assert not any(p.requires_grad for p in (*incompetent.parameters(), *competent.parameters()))


def test_each_teacher_sees_its_own_samples_only(
    shallow: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = BadTeacher(epochs=2, batch_size=7)
    apart = method(replace(shallow, engine=replace(shallow.engine, meter=(own := Meter()))))
    assert own.trained == own.forwarded == 2 * (10 + 9)
    # On a GPU a step would have to wait to know the rows of each teacher, so that both see all.
    monkeypatch.setattr(engine, "_rows_of_first_teacher", lambda *_: None)
    together = method(replace(shallow, engine=replace(shallow.engine, meter=(both := Meter()))))
    assert both.forwarded == 2 * both.trained == 2 * own.trained
    equal_states(together, apart, shallow.model, moved=1e-4)


def test_bad_teacher_mixes_datasets_as_it_mixes_tensors(shallow: Task) -> None:
    method = BadTeacher(epochs=1, batch_size=6)
    parts = [
        DatasetSource(TensorDataset(s.inputs, s.targets)) for s in (shallow.forget, shallow.retain)
    ]  # type: ignore[union-attr]
    streamed = method(replace(shallow, forget=parts[0], retain=parts[1]))
    assert checkpoint.model_digest(streamed) == checkpoint.model_digest(method(shallow))
    assert checkpoint.model_digest(
        method(replace(shallow, retain=parts[1]))
    ) == checkpoint.model_digest(streamed)
