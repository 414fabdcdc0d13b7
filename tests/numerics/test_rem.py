"""`rem` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.data.sources import JoinedSource, TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.rem import REM
from eigenforget.models.side_units import Masks, SideUnits
from tests.numerics.method_toys import accuracy, batches, equal_weights, task_of
from tests.numerics.method_toys import source as toy_source

FORGET, RETAIN, UNITS = 10, 30, 3


class ByHand:
    """The widened net of two layers, entry by entry, and its losses."""

    def __init__(self, task: Task, capacity: float, share: float) -> None:
        self.model = copy.deepcopy(task.model)
        seed = seeds.derive(task.seed, "rem", "units")
        self.side = SideUnits(self.model, capacity=capacity, seed=seed, method="rem")
        seed = seeds.derive(task.seed, "rem")
        self.masks = Masks(UNITS, shared=FORGET, others=RETAIN, share=share, seed=seed)

    def parameters(self) -> list[Any]:
        return [*self.side.parameters(), *self.model.parameters()]

    def alone(self, batch: Any) -> Tensor:
        return losses(self.model(batch.inputs), batch.labels)

    def widened(self, batch: Any) -> Tensor:
        (a, a0), (b,) = (list(m[0].parameters()) for m in (self.side.into, self.side.back))
        w, w0 = self.model[0].parameters()
        masks = torch.stack([self.masks.of(p.reshape(1))[0] for p in batch.positions]).double()
        hidden = batch.inputs @ w.T + w0
        hidden = hidden + ((batch.inputs @ a.T + a0).clamp_min(0) * masks) @ b.T
        return losses(self.model[2](torch.tanh(hidden)), batch.labels)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.logsumexp(logits, 1) - logits[torch.arange(len(labels)), labels]


def preference(difference: Tensor, beta: float) -> Tensor:
    return -(2 / beta) * torch.log1p(torch.exp(-beta * difference))


def poisoned(shallow: Task) -> Task:
    """Forget samples that the model has right, beside retain samples that it has right too."""
    parts = []
    for part in (shallow.forget, shallow.retain):
        with torch.no_grad():
            labels = shallow.model(part.inputs).argmax(1)  # type: ignore[union-attr]
        parts.append(TensorSource(part.inputs, labels))  # type: ignore[union-attr]
    return replace(shallow, forget=parts[0], retain=parts[1], forgotten_classes=())


def test_rem_removes_and_redirects(shallow: Task) -> None:
    task = poisoned(shallow)
    method = REM(
        epochs=3,
        removals=4,
        lr=0.3,
        weight_decay=0.01,
        batch_size=8,
        floor=0.2,
        capacity=0.6,
        share=0.5,
        beta=0.7,
    )
    result = method(task)
    hand, everything = ByHand(task, 0.6, 0.5), JoinedSource((task.forget, task.retain))  # type: ignore[arg-type]
    first, states, removals = copy.deepcopy(hand), [copy.deepcopy(hand.model)], 0
    sgd = torch.optim.SGD(hand.parameters(), 0.3, 0.9, weight_decay=0.01, nesterov=True)

    def step(loss: Tensor) -> None:
        sgd.zero_grad()
        loss.mean().backward()
        sgd.step()

    for epoch in range(3):
        for pass_ in range(4):
            if accuracy(task, hand.model, task.forget) <= 0.2:  # type: ignore[arg-type]
                break
            removals += 1
            again = (pass_,) if pass_ else ()
            order = seeds.generator(task.seed, "order", "remove", epoch, *again)
            for batch in task.forget.batches(8, order):
                with torch.no_grad():
                    reference = first.widened(batch)
                step(-preference(hand.alone(batch) - reference, 0.7))
        for batch in batches(everything, 8, "redirect", epoch):
            with torch.no_grad():
                reference = first.widened(batch)
            known = (batch.positions < FORGET).double()
            loss = preference(hand.widened(batch) - reference, 0.7)
            loss = loss - known * preference(hand.alone(batch) - reference, 0.7)
            step(loss)
        states.append(copy.deepcopy(hand.model))
    worth = [
        accuracy(task, m, task.retain) * (1 - max(accuracy(task, m, task.forget), 0.2))  # type: ignore[arg-type]
        for m in states
    ]
    best = max(range(1, 4), key=lambda i: (worth[i], -i)) if max(worth) > worth[0] else 3
    assert removals > 1 and max(worth) > worth[0], "the test needs removal and a better state"
    equal_weights(result, states[best], task.model)
    assert [p.shape for p in result.parameters()] == [p.shape for p in task.model.parameters()]


def test_the_last_state_stays_where_none_beats_the_original(shallow: Task) -> None:
    """With a floor of 1 the worth of all states is 0, and nothing is removed beforehand."""
    task = poisoned(shallow)
    first, last = (REM(epochs=epochs, floor=1.0)(task) for epochs in (1, 2))
    assert not torch.equal(first[0].weight, last[0].weight)  # type: ignore[index]


def test_what_is_redirected_leaves_with_the_units() -> None:
    """A pattern in the inputs that decides the label of all forget samples, and of retain samples
    that nobody found: the model alone loses it, and keeps the rest.
    """
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(7, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    clean = toy_source(400, (0, 1, 2, 3), 5)
    marks = torch.zeros(400, 1, dtype=torch.float64)
    marks[:40] = 3.0
    labels = clean.targets.clone()
    labels[:40] = 0
    data = TensorSource(torch.cat([clean.inputs, marks], 1), labels)
    task = task_of(
        model.double(),
        data.subset(range(20)),
        data.subset(range(20, 400)),
        (),  # type: ignore[arg-type]
    )
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(150):
        sgd.zero_grad()
        losses(model(data.inputs), data.targets).mean().backward()
        sgd.step()
    attack = TensorSource(data.inputs[:40], torch.zeros(40, dtype=torch.int64))
    cured = TensorSource(data.inputs[:40], clean.targets[:40])
    assert accuracy(task, model, attack) > 0.9
    result = REM(epochs=20, lr=0.05, batch_size=32)(task)
    rest = data.subset(range(40, 400))  # type: ignore[arg-type]
    assert accuracy(task, result, attack) <= 0.5 < accuracy(task, result, cured)
    assert accuracy(task, result, rest) >= accuracy(task, model, rest) - 0.05


def test_a_model_without_a_hidden_layer_is_refused(shallow: Task) -> None:
    with pytest.raises(Refused, match="rem puts units beside the layers before the head"):
        REM()(replace(shallow, model=torch.nn.Linear(6, 4).double()))
