"""`random_label` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.data.sources import JoinedSource, TensorSource
from eigenforget.methods import Masked, RandomLabel
from eigenforget.methods.base import Task
from eigenforget.training.engine import Engine
from tests.numerics.method_toys import batches, equal_states


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


SETTINGS: dict[str, Any] = {
    "lr": 0.05, "batch_size": 4, "schedule": "constant", "weight_decay": 0.01, "clip": 0.5,
}  # fmt: skip


def labels_seen(task: Task, **fields: Any) -> list[torch.Tensor]:
    """The labels that a run trains on: per epoch, those of all forget samples in their order."""
    seen: list[torch.Tensor] = []

    def watching(model: nn.Module, phases: Any) -> Any:
        def loss(part: Any) -> torch.Tensor:
            value = first.loss(part)
            found = torch.logsumexp(part.outputs.logits, 1, keepdim=True) - part.outputs.logits
            forget = part.batch.positions < len(task.forget)
            same = (found - value.unsqueeze(1)).abs().argmin(1)
            seen[-1][part.batch.positions[forget]] = same[forget]
            return value

        def prepare(model: nn.Module, epoch: int) -> None:
            first.prepare(model, epoch)
            seen.append(torch.full((len(task.forget),), -1))

        first = phases[0]
        return [replace(first, loss=loss, prepare=prepare), *phases[1:]]

    RandomLabel(batch_size=4, **fields)(
        replace(task, engine=Engine(device="cpu").changing(watching))
    )
    return seen


def test_labels_are_drawn_once_per_epoch_or_per_batch(small: Task) -> None:
    once = labels_seen(small, epochs=3)
    assert all(torch.equal(labels, RandomLabel().labels(small)) for labels in once)
    for redraw in ("epoch", "batch"):
        anew = labels_seen(small, epochs=3, redraw=redraw)
        assert len({tuple(labels.tolist()) for labels in anew}) == 3, redraw
        assert all(bool(((labels >= 0) & (labels != 2)).all()) for labels in anew)
        again = labels_seen(small, epochs=3, redraw=redraw)
        assert all(torch.equal(a, b) for a, b in zip(anew, again, strict=True))


def test_candidates_may_be_all_outputs_the_own_one_included(task: Task) -> None:
    many = replace(task, forget=TensorSource(torch.zeros(9000, 1), torch.full((9000,), 3)))
    counts = torch.bincount(RandomLabel(candidates="all").labels(many), minlength=10)
    assert (counts - 900).abs().max() < 150  # 5 standard deviations


@pytest.mark.parametrize("retain_steps", ["after", "mixed", "none"])
def test_random_label_equals_its_steps_written_out(retain_steps: Any, small: Task) -> None:
    """With one momentum for all; every step's gradient is limited."""
    method = RandomLabel(
        epochs=2, retain_steps=retain_steps, one_optimizer=True, nesterov=False, **SETTINGS
    )
    rows: list[Any] = []
    result, hand = method(replace(small, log=rows.append)), copy.deepcopy(small.model)
    assert len(rows) == method.log_rows == (4 if retain_steps == "after" else 2)
    wrong, size = method.labels(small), len(small.forget)
    sgd = torch.optim.SGD(hand.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)

    def step(batch: Any, labels: torch.Tensor) -> None:
        sgd.zero_grad()
        nn.functional.cross_entropy(hand(batch.inputs), labels).backward()
        nn.utils.clip_grad_norm_(hand.parameters(), 0.5)
        sgd.step()

    for epoch in range(2):
        if retain_steps == "mixed":
            both = JoinedSource((small.forget, small.needs_retain("")))
            for batch in batches(both, 4, "mixed", epoch):
                mine = wrong[batch.positions.clamp(max=size - 1)]
                step(batch, torch.where(batch.positions < size, mine, batch.labels))
            continue
        for batch in batches(small.forget, 4, "forget", epoch):
            step(batch, wrong[batch.positions])
        for batch in batches(small.retain, 4, "recover", epoch) if retain_steps == "after" else ():
            step(batch, batch.labels)
    equal_states(result, hand, small.model)


def test_without_retain_steps_no_retain_data_is_needed_in_a_mask_either(small: Task) -> None:
    bare = replace(small, retain=None)
    method = RandomLabel(epochs=1, retain_steps="none", **SETTINGS)
    for chosen in (method, Masked(inner=method)):
        result = chosen(bare)
        assert any(
            not torch.equal(a, b)
            for a, b in zip(result.parameters(), small.model.parameters(), strict=True)
        )
    with pytest.raises(Refused, match="random_label needs retain data"):
        RandomLabel()(bare)
