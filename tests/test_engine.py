"""The training loop against hand-written loops, sources against each other, and feature capture."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from eigenforget.core import seeds
from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.data.sources import DatasetSource, TensorSource, as_source
from eigenforget.models.features import capture, find_head
from eigenforget.training.engine import Engine
from eigenforget.training.losses import cross_entropy, kl_between
from eigenforget.training.phases import LossInputs, Optimizer, Phase


def net(d: int = 5, c: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(d, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, c)).double()


def data(n: int = 23, d: int = 5, c: int = 3, seed: int = 1) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    return TensorSource(
        torch.randn(n, d, generator=g, dtype=torch.float64), torch.randint(0, c, (n,), generator=g)
    )


def ce(part: LossInputs) -> Tensor:
    return cross_entropy(part.outputs.logits, part.batch.labels)


def double(engine: Engine) -> Engine:
    return Engine(device="cpu", precision="64-true")


def plain_sgd(
    model: nn.Module,
    loss_of: object,
    batches: list[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    total: int,
) -> None:
    """SGD with Nesterov momentum and L2 by explicit arithmetic on each parameter."""
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for step, (x, y) in enumerate(batches):
        grads = torch.autograd.grad(loss_of(model, x, y), list(model.parameters()))  # type: ignore[operator]
        lr = optimizer.lr * optimizer.factor(step, total)
        with torch.no_grad():
            for p, v, g in zip(model.parameters(), velocity, grads, strict=True):
                g = g + optimizer.weight_decay * p
                v.mul_(optimizer.momentum).add_(g)
                p.sub_(lr * (g + optimizer.momentum * v))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_fit_equals_explicit_sgd(engine: Engine, schedule: str) -> None:
    source, model, hand = data(), net(), net()
    optimizer = Optimizer(lr=0.1, momentum=0.9, weight_decay=0.01, schedule=schedule)  # type: ignore[arg-type]
    double(engine).fit(
        model, [Phase("p", (source,), ce, optimizer, batch_size=8)], epochs=3, seed=4
    )
    batches = [
        (b.inputs, b.labels)
        for cycle in range(3)
        for b in source.batches(8, seeds.generator(4, "order", "p", cycle))
    ]
    assert len(batches) == 9
    plain_sgd(
        hand.train(), lambda m, x, y: nn.functional.cross_entropy(m(x), y), batches, optimizer, 9
    )
    for a, b in zip(model.state_dict().values(), hand.state_dict().values(), strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-5, atol=1e-7
        )  # cross-entropy is computed in float32


def test_phases_alternate_with_their_own_optimizers(engine: Engine) -> None:
    a, b, model = data(seed=1), data(seed=2), net()
    order: list[str] = []

    def phase(name: str, source: TensorSource, steps: int | None) -> Phase:
        return Phase(
            name,
            (source,),
            lambda p: (order.append(name), ce(p))[1],
            Optimizer(lr=0.01),
            8,
            steps_per_epoch=steps,
        )

    rows: list[dict[str, object]] = []
    engine.fit(
        model.float(),
        [phase("a", _float(a), None), phase("b", _float(b), 5)],
        epochs=2,
        seed=0,
        log=rows.append,
    )
    assert order == (["a"] * 3 + ["b"] * 5) * 2
    assert [(r["epoch"], r["phase"]) for r in rows] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_teachers_see_the_same_batch_and_are_never_moved(engine: Engine) -> None:
    source, model, teacher = _float(data()), net().float(), net(seed=5).float()
    frozen = copy.deepcopy(teacher.state_dict())
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(part: LossInputs) -> Tensor:
        seen.append((part.batch.inputs, part.teachers[0].logits))
        return kl_between(part.teachers[0].logits, part.outputs.logits, 1.0)

    engine.fit(
        model, [Phase("p", (source,), loss, Optimizer(), 8, teachers=(teacher,))], epochs=2, seed=0
    )
    assert all(torch.equal(v, frozen[k]) for k, v in teacher.state_dict().items())
    for inputs, logits in seen:
        torch.testing.assert_close(logits, teacher(inputs))


def test_companion_sources_cycle_beside_the_first(engine: Engine) -> None:
    long, short = _float(data(n=20)), _float(data(n=6, seed=3))
    sizes: list[tuple[int, int]] = []

    def loss(first: LossInputs, second: LossInputs) -> Tensor:
        sizes.append((len(first.batch.labels), len(second.batch.labels)))
        return ce(first).mean() + ce(second).mean()

    engine.fit(
        net().float(), [Phase("p", (long, short), loss, Optimizer(lr=0.01), 4)], epochs=1, seed=0
    )
    assert [first for first, _ in sizes] == [4] * 5 and [second for _, second in sizes] == [
        4,
        2,
        4,
        2,
        4,
    ]


def test_frozen_norm_and_chosen_parameters(engine: Engine) -> None:
    model = net().float()
    before = copy.deepcopy(model.state_dict())
    phase = Phase(
        "p",
        (_float(data()),),
        ce,
        Optimizer(),
        8,
        norm="frozen",
        trains=lambda name: name.startswith("3."),
    )
    engine.fit(model, [phase], epochs=1, seed=0)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"3.weight", "3.bias"}


def test_gradient_hook_and_penalty(engine: Engine) -> None:
    source = _float(data())
    still = net().float()
    before = copy.deepcopy(still.state_dict())

    def zero(model: nn.Module) -> None:
        for p in model.parameters():
            p.grad = torch.zeros_like(p)

    optimizer = Optimizer(weight_decay=0.0)
    engine.fit(
        still,
        [Phase("p", (source,), ce, optimizer, 8, on_gradients=zero, norm="frozen")],
        epochs=1,
        seed=0,
    )
    assert all(torch.equal(v, before[k]) for k, v in still.state_dict().items())
    shrunk = net().float()
    big = Phase(
        "p",
        (source,),
        lambda p: 0 * ce(p),
        optimizer,
        8,
        penalty=lambda m, c: sum(p.abs().sum() for p in m.parameters()),
    )
    engine.fit(shrunk, [big], epochs=5, seed=0)
    size = lambda m: sum(float(p.abs().sum()) for p in m.parameters())  # noqa: E731
    assert size(shrunk) < 0.9 * size(net())


def test_same_seed_same_bits_and_global_randomness_untouched(engine: Engine) -> None:
    source = _float(data())

    def run(seed: int) -> nn.Module:
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(5, 9), nn.Dropout(0.5), nn.Linear(9, 3))
        state = torch.get_rng_state()
        torch.rand(seed + 1)
        torch.set_rng_state(state)
        engine.fit(model, [Phase("p", (source,), ce, Optimizer(), 8)], epochs=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return model

    a, b, c = run(0), run(0), run(1)
    same = [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(a.parameters()), next(c.parameters()))


def test_divergence_is_an_error(engine: Engine) -> None:
    with pytest.raises(Diverged, match="diverged"):
        engine.fit(
            net().float(),
            [Phase("p", (_float(data()),), ce, Optimizer(lr=1e30), 8)],
            epochs=4,
            seed=0,
        )


def test_forward_restores_modes_and_changes_nothing(engine: Engine) -> None:
    model = net().float().train()
    model[2].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    for _ in engine.forward(model, _float(data()), batch_size=4):
        break
    got = list(engine.forward(model, _float(data()), batch_size=4))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    whole = copy.deepcopy(model).eval()
    torch.testing.assert_close(torch.cat([o.logits for _, o in got]), whole(_float(data()).inputs))
    assert torch.cat([b.positions for b, _ in got]).tolist() == list(range(23))


def test_capture_takes_the_head_input_or_a_named_layer() -> None:
    model = net().float()
    x = _float(data()).inputs
    model.eval()
    with capture(model) as tap:
        torch.testing.assert_close(tap(x).features, model[2](model[1](model[0](x))))
    with capture(model, "0") as tap:
        torch.testing.assert_close(tap(x).features, model[0](x))
    assert not model[3]._forward_pre_hooks and not model[0]._forward_hooks
    assert find_head(model)[0] == "3"
    with (
        pytest.raises(EigenforgetError, match="no layer 'x'; the model has: 0, 1, 2, 3"),
        capture(model, "x"),
    ):
        pass
    with pytest.raises(EigenforgetError, match=r"no nn\.Linear"), capture(nn.Conv2d(1, 1, 1)):
        pass


def test_feature_maps_are_averaged_over_space() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    x = torch.rand(2, 1, 6, 6)
    with capture(model, "0") as layer, capture(model) as head:
        model_out, pooled = layer(x), head(x)
    torch.testing.assert_close(model_out.features, pooled.features)


class Wrapped(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = net().float(), kind

    def forward(self, x: Tensor) -> object:
        logits = self.inner(x)
        return {"dict": {"logits": logits}, "tuple": (logits, None), "bad": logits[0], "none": {}}[
            self.kind
        ]


def test_models_that_return_dicts_or_tuples(engine: Engine) -> None:
    expected = torch.cat([o.logits for _, o in engine.forward(net().float(), _float(data()))])
    for kind in ("dict", "tuple"):
        got = torch.cat([o.logits for _, o in engine.forward(Wrapped(kind), _float(data()))])
        torch.testing.assert_close(got, expected)
    for kind in ("bad", "none"):
        with pytest.raises(EigenforgetError, match=r"logits \[B, C\]"):
            list(engine.forward(Wrapped(kind), _float(data())))


class Pairs(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: TensorSource) -> None:
        self.source, self.reads = source, 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.source.inputs[i], int(self.source.targets[i])


def test_tensors_datasets_and_loaders_give_the_same_batches() -> None:
    tensors = _float(data())
    kinds = [
        as_source((tensors.inputs, tensors.targets)),
        as_source((tensors.inputs.numpy(), tensors.targets.numpy())),
        as_source(TensorDataset(tensors.inputs, tensors.targets)),
        as_source(Pairs(tensors)),
        as_source(DataLoader(Pairs(tensors), batch_size=3, shuffle=True)),
    ]
    for source in kinds:
        np.testing.assert_array_equal(source.labels(), tensors.labels())
        for generator in (None, 5):
            for got, want in zip(
                _passes(source, generator), _passes(tensors, generator), strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        part = source.subset(np.array([4, 1, 9]))
        assert torch.equal(next(part.batches(8)).inputs, tensors.inputs[[4, 1, 9]])


def test_a_loader_with_its_own_sampler_keeps_its_selection() -> None:
    tensors = _float(data())
    source = as_source(
        DataLoader(Pairs(tensors), batch_size=4, sampler=SubsetRandomSampler([7, 3, 11]))
    )
    assert torch.equal(next(source.batches(8)).inputs, tensors.inputs[[3, 7, 11]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)), "2 inputs and 3 labels"),
        ((torch.zeros(2, 3), torch.zeros(2)), "1-D integer"),
        ((torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), "x is empty"),
        (3, "map-style Dataset or a DataLoader, got int"),
    ],
)
def test_wrong_data(value: object, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        as_source(value, "x")


def test_a_trailing_batch_of_one_is_left_out_of_training() -> None:
    source = _float(data(n=9))
    assert [len(b.labels) for b in source.batches(4, torch.Generator().manual_seed(0))] == [4, 4]
    assert [len(b.labels) for b in source.batches(4)] == [4, 4, 1]
    assert isinstance(as_source(Pairs(source)), DatasetSource)


def _float(source: TensorSource) -> TensorSource:
    return TensorSource(source.inputs.float(), source.targets)


def _passes(source: object, seed: int | None) -> Iterator[tuple[Tensor, ...]]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return iter([tuple(b) for b in source.batches(4, generator)])  # type: ignore[attr-defined]
