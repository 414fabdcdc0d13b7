"""Unseen distillation against the algorithm written out by hand, and what it guarantees of the
stand-in and of the result.
"""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.data.sources import Source, TensorSource
from eigenforget.methods import Finetune, UnseenDistill, later_layers, unseen_distill
from eigenforget.methods.base import Task
from eigenforget.methods.stand_in import margin
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised


@pytest.fixture
def small() -> Task:
    """Three linear layers without normalisation on 4 classes, a quarter of the samples to be
    forgotten, in float64.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 4)
    ).double()
    g = torch.Generator().manual_seed(1)
    x, y = (
        2 * torch.randn(60, 6, generator=g, dtype=torch.float64),
        torch.randint(4, (60,), generator=g),
    )
    engine = Engine(device="cpu", precision="64-true")
    return Task(
        model,
        TensorSource(x[:15], y[:15]),
        TensorSource(x[15:], y[15:]),
        engine,
        seed=3,
        num_classes=4,
    )


def batches(
    task: Task, phase: str, sources: tuple[Source, ...], size: int, cycle: int
) -> Iterator[tuple[Tensor, ...]]:
    """(inputs, labels) of one pass over the last source, those of the others beside it; all take
    turns at one generator.
    """
    generator = seeds.generator(task.seed, "order", phase, cycle)

    def endless(source: Source) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from ((batch.inputs, batch.labels) for batch in source.batches(size, generator))

    flows = [endless(source) for source in sources]
    for _ in range(math.ceil(len(sources[-1]) / size)):
        yield tuple(itertools.chain.from_iterable(next(flow) for flow in flows))


def log_p(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(1, keepdim=True).log()


def divergence(q: Tensor, logits: Tensor) -> Tensor:
    return (q * (q.log() - log_p(logits))).sum(1).mean()


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    p = log_p(logits).exp()[torch.arange(len(labels)), labels]
    return p.log() - (1 - p).log()


def held(
    task: Task,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    over: Tensor,
    weights: tuple[float, float, float],
) -> Tensor:
    """The retained side's loss; `over` are the inputs whose features give the variance."""
    known = task.model[:4](over).detach().numpy()  # type: ignore[index]
    features, original = model[:4](x), task.model[:4](x).detach()  # type: ignore[index]
    error = ((features - original) ** 2).sum(1).mean() / float(known.var(0).sum())
    right = log_p(model(x))[torch.arange(len(y)), y].mean()
    return (
        -weights[0] * right
        + weights[1] * divergence(log_p(task.model(x)).exp().detach(), model(x))
        + weights[2] * error
    )


def descend(
    model: nn.Module,
    parameters: list[nn.Parameter],
    losses: Iterator[Tensor],
    rate: Callable[[int], float],
    clip: float,
) -> None:
    """SGD with Nesterov momentum 0.9 and an L2 penalty of 5e-4."""
    velocity = [torch.zeros_like(p) for p in parameters]
    for step, loss in enumerate(losses):
        grads = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
        with torch.no_grad():
            for p, v, g in zip(parameters, velocity, grads, strict=True):
                d = g * (min(1.0, clip / (norm + 1e-6)) if clip else 1.0) + 5e-4 * p
                v.mul_(0.9).add_(d)
                p.sub_(rate(step) * (d + 0.9 * v))


def by_hand(task: Task, method: UnseenDistill, redrawn: int) -> tuple[nn.Module, nn.Module]:
    """(stand-in, result); the stand-in's last `redrawn` linear layers are drawn anew."""
    assert isinstance(task.forget, TensorSource) and isinstance(task.retain, TensorSource)
    order = torch.randperm(
        len(task.retain), generator=seeds.generator(task.seed, "unseen_distill", "retain")
    ).numpy()
    size, steps = method.batch_size, method.epochs * math.ceil(len(task.forget) / method.batch_size)
    sample = task.retain.subset(order[: method.stand_in_samples])
    kept = task.retain.subset(order[: steps * size])

    stand_in = copy.deepcopy(task.model)
    later = {str(i): stand_in[i] for i in (0, 2, 4)[-redrawn:]}  # type: ignore[index]
    reinitialise(later, seed=seeds.derive(task.seed, "unseen_distill"), method="by hand")
    total = method.stand_in_epochs * math.ceil(len(sample) / size)
    losses = (
        held(task, stand_in, x, y, sample.inputs, (1, 1, 1))  # type: ignore[arg-type]
        for cycle in range(method.stand_in_epochs)
        for x, y in batches(task, "stand-in", (sample,), size, cycle)
    )
    trained = [p for layer in later.values() for p in layer.parameters()]
    rising = [max(min(i / total / 0.2, (1 - i / total) / 0.8), 1e-3) for i in range(total)]
    descend(
        stand_in, trained, losses, lambda i: method.stand_in_lr * rising[i], method.stand_in_clip
    )

    model = copy.deepcopy(task.model)

    def both() -> Iterator[Tensor]:
        for cycle in range(method.epochs):
            for x_r, y_r, x_f, y_f in batches(task, "forget", (kept, task.forget), size, cycle):
                z = stand_in(x_f).detach() * method.sharpness
                loss = method.w_target * divergence(log_p(z).exp(), model(x_f))
                loss = (
                    loss
                    + method.w_margin * (log_odds(model(x_f), y_f) - log_odds(z, y_f)).abs().mean()
                )
                weights = (method.w_labels, method.w_logits, method.w_features)
                yield loss + held(task, model, x_r, y_r, kept.inputs, weights)  # type: ignore[arg-type]

    descend(
        model,
        list(model.parameters()),
        both(),
        lambda i: method.lr * 0.5 * (1 + math.cos(math.pi * i / steps)),
        method.clip,
    )
    return stand_in, model


FIELDS: list[tuple[dict[str, float], int]] = [
    ({}, 3),
    ({"redrawn": 0.4}, 2),
    ({"redrawn": 0.3}, 1),
    ({"w_margin": 0, "sharpness": 2.0}, 3),
    ({"w_target": 0}, 3),
    ({"w_labels": 0, "w_features": 0}, 3),
    ({"w_logits": 0, "clip": 0.1}, 3),
    ({"stand_in_samples": 10, "epochs": 1}, 3),
]


@pytest.mark.parametrize(("fields", "redrawn"), FIELDS, ids=str)
def test_is_the_algorithm_written_out_by_hand(
    small: Task, fields: dict[str, float], redrawn: int
) -> None:
    method = UnseenDistill(
        **({"epochs": 2, "batch_size": 8, "stand_in_epochs": 2, "stand_in_samples": 30} | fields)
    )  # type: ignore[arg-type]
    stand_in, expected = by_hand(small, method, redrawn)
    found = method(small)
    for (name, a), b in zip(
        found.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(
            a.numpy(), b.numpy(), rtol=1e-4, atol=2e-5, err_msg=name
        )  # losses are float32 in the engine
    assert not torch.allclose(found[0].weight, small.model[0].weight, atol=1e-3)  # type: ignore[index]
    assert not torch.allclose(stand_in[4].weight, small.model[4].weight, atol=1e-3)  # type: ignore[index]


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_margin_is_the_log_odds_of_the_label_and_does_not_saturate(size: float) -> None:
    logits = size * torch.randn(
        20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    labels = torch.arange(20) % 5
    p = logits.softmax(1).numpy()[range(20), labels.numpy()]
    others = (
        1 - p
        if size == 1
        else np.array(
            [
                np.delete(row, y).sum()
                for row, y in zip(logits.softmax(1).numpy(), labels, strict=True)
            ]
        )
    )
    np.testing.assert_allclose(
        margin(logits, labels).numpy(), np.log(p) - np.log(others), rtol=1e-8
    )
    sure = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    found = margin(sure, torch.tensor([0]))
    assert found.item() == 1e4 and torch.autograd.grad(found.sum(), sure)[0].tolist() == [
        [1.0, 0.0, -1.0]
    ]


def test_stand_in_never_sees_the_forget_data_and_keeps_the_earlier_layers(small: Task) -> None:
    assert small.retain is not None
    method = UnseenDistill(batch_size=8, redrawn=0.4)
    found = method.stand_in(small, small.retain)
    other = method.stand_in(replace(small, forget=small.retain.subset(np.arange(3))), small.retain)
    given = small.model.state_dict()
    for (name, a), b in zip(found.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, given[name]) == name.startswith("0."), name
    assert all(p.requires_grad for p in small.model.parameters())


def test_stand_in_keeps_the_earlier_statistics_and_trains_the_later_ones(small: Task) -> None:
    torch.manual_seed(4)
    layers = [
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Linear(5, 5),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Linear(5, 4),
    ]
    model = nn.Sequential(*layers).double()
    assert small.retain is not None
    found = (
        UnseenDistill(batch_size=8, redrawn=0.6)
        .stand_in(replace(small, model=model), small.retain)
        .state_dict()
    )
    moved = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, found[name])
    }
    assert moved == {name for name in found if int(name[0]) >= 3}


def test_stand_in_draws_what_is_not_frozen_of_a_layer_and_keeps_bare_statistics(
    small: Task,
) -> None:
    torch.manual_seed(4)
    layers = [
        nn.LayerNorm(6),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5, affine=False),
        nn.Tanh(),
        nn.Linear(5, 4),
    ]
    model = nn.Sequential(*layers).double()
    model[0].weight.data.fill_(2)
    model[2].running_mean.fill_(2.0)  # type: ignore[union-attr, operator]
    model[4].bias.requires_grad_(False)
    assert small.retain is not None
    task = replace(small, model=model)
    for redrawn, drawn in (
        (0.9, {"1.weight", "1.bias", "4.weight"}),
        (1.0, {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight"}),
    ):
        found = (
            UnseenDistill(batch_size=8, redrawn=redrawn).stand_in(task, small.retain).state_dict()
        )
        assert {
            name
            for name, tensor in model.state_dict().items()
            if not torch.equal(tensor, found[name])
        } == drawn


@pytest.mark.parametrize("seed", range(4))
def test_stand_in_learns_without_batch_norm(seed: int) -> None:
    """Its first steps have large gradients where all layers but the first are new: unlimited they
    end it at chance.
    """
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(240) % 4
    x = torch.randn(240, 1, 8, 8, generator=g) + 3 * torch.eye(4)[y].repeat_interleave(16, 1).view(
        240, 1, 8, 8
    )
    torch.manual_seed(seed)
    convolutions = [
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
    ]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 4))
    engine, data = Engine(device="cpu"), TensorSource(x, y)
    engine.fit(
        model,
        [Phase("train", (data,), supervised, Optimizer(kind="adamw", lr=3e-3, weight_decay=0), 32)],
        epochs=15,
        seed=0,
    )
    task = Task(
        model,
        data.subset(np.arange(20)),
        data.subset(np.arange(20, 240)),
        engine,
        seed=seed,
        num_classes=4,
    )
    assert task.retain is not None
    found = UnseenDistill(batch_size=32).stand_in(task, task.retain)
    hits = [(o.logits.argmax(1) == b.labels).float() for b, o in engine.forward(found, task.retain)]
    assert float(torch.cat(hits).mean()) > 0.9


def test_statistics_stay_where_they_are_frozen(small: Task) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 4)).double()
    for norm in ("train", "frozen"):
        found = UnseenDistill(batch_size=5, epochs=1, stand_in_epochs=1, norm=norm)(
            replace(small, model=model)
        )  # type: ignore[arg-type]
        assert torch.equal(found[1].running_mean, model[1].running_mean) == (norm == "frozen")  # type: ignore[index, arg-type]


def test_nothing_moves_where_the_stand_in_says_what_the_original_does(
    small: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UnseenDistill, "stand_in", lambda self, task, sample: task.teacher())
    still = UnseenDistill(sharpness=1.0, w_margin=0, w_labels=0, weight_decay=0, batch_size=8)
    moved = UnseenDistill(sharpness=1.5, w_margin=0, w_labels=0, weight_decay=0, batch_size=8)
    for method, same in ((still, True), (moved, False)):
        pairs = zip(method(small).parameters(), small.model.parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs) == same


def test_memorised_random_labels_go_to_chance_and_not_below_while_the_others_stay() -> None:
    """Labels that nothing predicts: a retrained model has them right by chance, here with 1 in 4;
    the original has all.
    """
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 24, generator=g), torch.randint(4, (400,), generator=g)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 4)
    )
    engine, forget, retain = (
        Engine(device="cpu"),
        TensorSource(x[:100], y[:100]),
        TensorSource(x[100:], y[100:]),
    )
    phase = Phase(
        "train",
        (TensorSource(x, y),),
        supervised,
        Optimizer(kind="adamw", lr=5e-3, weight_decay=0),
        50,
    )
    engine.fit(model, [phase], epochs=60, seed=0)
    task = Task(model, forget, retain, engine, seed=0, num_classes=4)

    def accuracy(of: nn.Module, source: Source) -> float:
        hits = [(o.logits.argmax(1) == b.labels).float() for b, o in engine.forward(of, source)]
        return float(torch.cat(hits).mean())

    assert accuracy(model, forget) == accuracy(model, retain) == 1
    result = UnseenDistill(redrawn=1.0, batch_size=25, epochs=20)(task)
    # Binomial(100, 1/4) lies in [0.13, 0.38] with 99 %.
    assert 0.13 <= accuracy(result, forget) <= 0.38 and accuracy(result, retain) >= 0.97


def test_costs_the_passes_that_it_declares(small: Task) -> None:
    UnseenDistill(batch_size=8, epochs=2, stand_in_epochs=3, stand_in_samples=20)(small)
    # 2 passes over 15 forget samples in batches of 8 are 4 steps: 32 retained samples are enough,
    # in batches of 8.
    assert small.engine.meter.trained == 3 * 20 + 2 * 15 + 4 * 8
    assert small.engine.meter.forwarded == 20 + 15 + 32


def test_refuses_what_it_cannot_do(small: Task) -> None:
    with pytest.raises(Refused, match="unseen_distill needs retain data"):
        UnseenDistill()(replace(small, retain=None))
    with pytest.raises(Refused, match="needs two retained samples"):
        UnseenDistill()(replace(small, retain=small.retain.subset(np.arange(1))))  # type: ignore[union-attr]
    with pytest.raises(Refused, match="this model has none; redrawn=1"):
        UnseenDistill()(replace(small, model=nn.Sequential(nn.Tanh())))
    with pytest.raises(Refused, match="needs w_target or w_margin above 0"):
        UnseenDistill(w_target=0, w_margin=0)(small)
    with pytest.raises(Refused, match="needs a layer that is not frozen among the last"):
        frozen = copy.deepcopy(small.model).requires_grad_(False)
        UnseenDistill()(replace(small, model=frozen))
    with pytest.raises(EigenforgetError, match="redrawn"):
        from eigenforget.core.spec import parse
        from eigenforget.methods import METHODS

        parse("unseen_distill(redrawn=0)", METHODS, "method")


def test_later_layers_train_alone_and_what_stays_is_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same result beside steps through the whole model, and earlier layers bit for bit."""
    torch.manual_seed(5)
    layers = [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 5), nn.BatchNorm1d(5)]
    model = nn.Sequential(*layers, nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    g = torch.Generator().manual_seed(6)
    x, y = torch.randn(60, 6, generator=g).double(), torch.randint(4, (60,), generator=g)
    sides = (TensorSource(x[:15], y[:15]), TensorSource(x[15:], y[15:]))
    engine = Engine(device="cpu", precision="64-true")
    task = Task(model, *sides, engine, seed=3, num_classes=4)
    seen: list[int] = []
    cut = later_layers.cut_model

    def watched(*given: Any) -> Any:
        parts = cut(*given)
        given[0][0].register_forward_hook(lambda *called: seen.append(len(called[1][0])))
        return parts

    method = UnseenDistill(
        epochs=2, batch_size=8, stand_in_batch=5, stand_in_samples=20, redrawn=0.5, trained=0.5
    )
    monkeypatch.setattr(later_layers, "cut_model", watched)
    once = method(task)
    assert sum(seen) <= 15 + 20 + 32 + 8  # each sample, and those that the parts are compared on
    monkeypatch.setattr(later_layers, "cut_model", lambda *_: None)
    whole = method(task)
    for (name, a), b in zip(once.state_dict().items(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        same = torch.equal(a, model.state_dict()[name])
        assert same == (name.startswith(("0.", "1."))), name
    assert all(p.requires_grad for p in once.parameters()) and not once.training


def test_a_stand_in_that_draws_all_layers_leaves_nothing_to_compute_once(small: Task) -> None:
    """Its first layer is new, so that the samples have to pass it."""
    ours = UnseenDistill(epochs=1, batch_size=8, redrawn=1.0, trained=0.4)
    result = ours(small)
    given = small.model.state_dict()
    for name, tensor in result.state_dict().items():
        assert torch.equal(tensor, given[name]) == name.startswith("0."), name


@pytest.mark.parametrize(
    ("least", "batch", "sizes", "epochs"),
    [
        (1, 8, [(8, 8), (8, 7)] * 2, 2),  # as many of either side, the last batch of a pass smaller
        (1, 4, [(4, 4)] * 3 + [(4, 3)], 1),
        (3, 64, [(16, 15)] * 3, 1),  # 16 at least, so that 15 samples make one step of a pass
    ],
)
def test_a_small_forget_set_takes_enough_steps(
    small: Task, least: int, batch: int, sizes: list[tuple[int, int]], epochs: int
) -> None:
    method = UnseenDistill(
        epochs=epochs, least_steps=least, batch_size=batch, stand_in_epochs=1, stand_in_samples=4
    )
    model = copy.deepcopy(small.model)
    forwards: list[tuple[bool, int]] = []
    model.register_forward_hook(
        lambda module, inputs, _: forwards.append((module.training, len(inputs[0])))
    )
    method(replace(small, model=model))
    seen = [count for training, count in forwards if training]
    steps = seen[-2 * len(sizes) :]
    assert list(zip(steps[::2], steps[1::2], strict=True)) == sizes
    assert len(seen) - len(steps) == math.ceil(4 / batch)  # the stand-in's


@pytest.mark.parametrize(("samples", "share", "learnt"), [(4, 0.0, 4), (4, 0.2, 9), (12, 0.2, 12)])
def test_a_stand_in_learns_from_a_share_of_the_retained_samples(
    small: Task, samples: int, share: float, learnt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    stand_in = UnseenDistill.stand_in

    def watched(method: UnseenDistill, task: Task, sample: Source) -> nn.Module:
        seen.append(len(sample))
        return stand_in(method, task, sample)

    monkeypatch.setattr(UnseenDistill, "stand_in", watched)
    UnseenDistill(
        epochs=1, batch_size=8, stand_in_epochs=1, stand_in_samples=samples, stand_in_share=share
    )(small)
    assert seen == [learnt]


@pytest.mark.parametrize(
    ("trained", "least", "known"), [(1.0, 4, 24), (0.4, 4, 12), (0.4, 20, 20), (0.4, 99, 24)]
)
def test_half_of_the_retained_places_have_samples_of_their_own(
    small: Task, trained: float, least: int, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where later layers alone train, and beyond the least number; three steps of 8 samples."""
    asked: list[int] = []
    sample = Task.sample

    def watched(task: Task, source: Source, count: int, *names: Any) -> Source:
        asked.append(count)
        return sample(task, source, count, *names)

    monkeypatch.setattr(Task, "sample", watched)
    monkeypatch.setattr(unseen_distill, "_LEAST_KNOWN", least)
    forget = small.forget.subset(np.arange(8))
    method = UnseenDistill(
        epochs=3, batch_size=8, stand_in_epochs=1, stand_in_samples=5, trained=trained
    )
    method(replace(small, forget=forget))
    assert asked == [5, known]


@pytest.mark.parametrize(
    ("own", "right", "little"), [(10, 9, True), (10, 8, False), (8, 6, True), (8, 5, False)]
)
def test_where_little_is_to_be_forgotten_another_method_takes_over(
    small: Task, own: int, right: int, little: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that has 9 of 10 of the right answers of an original that has all, or 8.

    Of one that has 8 of 10 right, 6 are enough.
    """
    known = small.model(small.forget.inputs).argmax(1)[:10]  # type: ignore[attr-defined]
    labels = torch.where(torch.arange(10) < own, known, (known + 2) % 4)
    forget = TensorSource(small.forget.inputs[:10], labels)  # type: ignore[attr-defined]
    stand_in = copy.deepcopy(small.model)

    def say(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> Tensor:
        row = (inputs[0][:, None] == forget.inputs).all(2).float().argmax(1)
        said = torch.where(row < right, known[row], (known[row] + 1) % 4)
        return nn.functional.one_hot(said, 4).double()

    stand_in.register_forward_hook(say)
    monkeypatch.setattr(UnseenDistill, "stand_in", lambda *_: stand_in)
    task, instead = replace(small, forget=forget), Finetune(epochs=1, batch_size=16)
    method = UnseenDistill(epochs=1, batch_size=8, instead=instead)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = method(task)
    assert any("little to forget" in str(note.message) for note in said) == little
    pairs = zip(found.parameters(), instead(task).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) == little
