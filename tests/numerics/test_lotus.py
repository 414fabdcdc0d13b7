"""`lotus` against its own formula, written out again by hand."""

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
from eigenforget.data.sources import DatasetSource, JoinedSource, TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.lotus import LoTUS, smoothed_target
from tests.numerics import method_toys
from tests.numerics.method_toys import SEED, changed, equal_weights, logits_by_hand


def test_lotus_target_formula() -> None:
    rng = np.random.default_rng(0)
    logits, gumbel = rng.normal(size=(6, 4)) * 3, rng.gumbel(size=(6, 4))
    forget = np.array([True, False, True, True, False, False])
    found = smoothed_target(
        torch.as_tensor(logits),
        torch.as_tensor(gumbel),
        forget=torch.as_tensor(forget),
        temperature=2.5,
    )
    for i in range(6):
        noisy = logits[i] + gumbel[i]
        want = softmax(noisy / 2.5) if forget[i] else np.eye(4)[int(np.argmax(noisy))]
        np.testing.assert_allclose(found[i].numpy(), want, atol=1e-12)


def test_lotus_is_its_algorithm_written_out(small: Task) -> None:
    """Two epochs: accuracy, temperature, Gumbel noise, mixed batches and AdamW by hand."""
    method = LoTUS(
        epochs=2,
        lr=0.01,
        weight_decay=0.1,
        alpha=1.7,
        target_accuracy=0.05,
        retain_share=0.5,
        batch_size=7,
    )
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model[2].bias[2] += 0.7  # type: ignore[index]
    task = replace(small, model=model)
    result = method(task)
    sample = task.sample(small.retain, 15, "lotus")  # type: ignore[arg-type]
    assert len(sample) == 15 == len(small.retain) // 2  # type: ignore[arg-type]
    mixed, hand = JoinedSource((small.forget, sample)), copy.deepcopy(model)
    step = torch.optim.AdamW(hand.parameters(), lr=0.01, weight_decay=0.1)
    uniform, temperatures = seeds.generator(SEED, "gumbel"), []
    for cycle in range(2):
        hits = sum(
            int(np.argmax(logits_by_hand(hand, x)) == 2) for x in small.forget.inputs.numpy()
        )  # type: ignore[attr-defined,misc]
        temperatures.append(math.exp(1.7 * (hits / 10 - 0.05)))
        for batch in mixed.batches(7, seeds.generator(SEED, "order", "lotus", cycle)):
            noise = (
                -torch.log(torch.empty(len(batch.labels), 4).exponential_(generator=uniform))
                .double()
                .numpy()
            )
            targets = []
            for t, g, y in zip(
                model(batch.inputs).detach().numpy(), noise, batch.labels.tolist(), strict=True
            ):
                targets.append(
                    softmax((t + g) / temperatures[-1]) if y == 2 else np.eye(4)[np.argmax(t + g)]
                )
            step.zero_grad()
            (
                -(torch.as_tensor(np.stack(targets)) * torch.log_softmax(hand(batch.inputs), 1))
                .sum(1)
                .mean()
            ).backward()
            step.step()
    assert temperatures[0] > 1.5
    equal_weights(result, hand, model)


def test_lotus_hard_targets_are_draws_from_the_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]]).expand(40000, 3)
    gumbel = -torch.empty(40000, 3).exponential_(generator=torch.Generator().manual_seed(0)).log()
    drawn = smoothed_target(
        logits, gumbel, forget=torch.zeros(40000, dtype=torch.bool), temperature=9.0
    ).mean(0)
    np.testing.assert_allclose(
        drawn.numpy(), softmax([2.0, 0.0, -1.0]), atol=0.0125
    )  # 5 standard deviations


def test_lotus_stops_at_its_target(task: Task, small: Task) -> None:
    rows: list[object] = []
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model[2].bias[2] -= 100.0  # type: ignore[index]
    below = replace(small, model=model, log=rows.append)
    result = LoTUS(target_accuracy=0.01)(below)
    assert not rows and not changed(result, model) and not any(m.training for m in result.modules())
    assert all(p.grad is None for p in result.parameters())
    LoTUS(target_accuracy=0.005, epochs=2)(below)
    assert len(rows) == 2, "a gap of −0.005 does not stop it"
    with pytest.raises(Refused, match="lotus needs unseen samples, or target_accuracy"):
        LoTUS()(replace(task, forgotten_classes=()))


def test_lotus_takes_the_accuracy_of_the_original_on_unseen_samples(small: Task) -> None:
    unseen = method_toys.source(30, (0, 1, 2, 3), 9)
    hits = [np.argmax(logits_by_hand(small.model, x)) for x in unseen.inputs.numpy()]  # type: ignore[union-attr]
    share = float(np.mean(np.array(hits) == unseen.labels()))
    samples = replace(small, forgotten_classes=(), unseen=unseen)
    assert 0 < share < 1 and LoTUS().goal(samples) == share
    assert LoTUS(target_accuracy=0.25).goal(samples) == 0.25
    assert LoTUS().goal(replace(samples, forgotten_classes=(2,))) == 0


def test_lotus_lowers_confidence_on_forget_data_only(task: Task) -> None:
    result = LoTUS(epochs=3)(task)
    entropies = {}
    for name, model in (("before", task.model), ("after", result)):
        for side, source in (("forget", task.forget), ("retain", task.retain)):
            p = torch.cat([o.logits.softmax(1) for _, o in task.engine.forward(model, source)])  # type: ignore[arg-type]
            entropies[name, side] = float(-(p * p.clamp_min(1e-30).log()).sum(1).mean())
    assert entropies["after", "forget"] > entropies["before", "forget"] + 0.5
    assert entropies["after", "retain"] < entropies["before", "retain"] + 0.2


def test_joined_sources_are_one_source() -> None:
    first = TensorSource(torch.arange(5.0).unsqueeze(1), torch.arange(5))
    pairs = [(torch.tensor([float(i)]), i) for i in range(5, 12)]
    both = JoinedSource((first, DatasetSource(pairs)))  # type: ignore[arg-type]
    assert len(both) == 12 and both.labels().tolist() == list(range(12))
    for generator in (None, torch.Generator().manual_seed(0)):
        seen = list(both.batches(5, generator))
        for batch in seen:
            assert (
                batch.inputs.squeeze(1).long().tolist()
                == batch.labels.tolist()
                == batch.positions.tolist()
            )
        order = torch.cat([b.positions for b in seen]).tolist()
        assert sorted(order) == list(range(12)) and [len(b.labels) for b in seen] == [5, 5, 2]
        assert (order == list(range(12))) == (generator is None)
    shuffled = [b.positions.tolist() for b in both.batches(5, torch.Generator().manual_seed(0))]
    assert any(min(b) < 5 <= max(b) for b in shuffled), "batches mix the sources"
    assert both.subset(np.array([1, 7, 11])).labels().tolist() == [1, 7, 11]
    assert [len(b.labels) for b in both.batches(11, torch.Generator().manual_seed(0))] == [11], (
        "no training batch of one"
    )
