"""The training loop against hand-written loops; options of the engine."""

from __future__ import annotations

import copy
import warnings
import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.mps import MPSAccelerator
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import eigenforget
from eigenforget.core import seeds
from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.notices import collected
from eigenforget.core.types import Outputs
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.audits.relearning import Relearning
from eigenforget.methods import METHODS
from eigenforget.training.cost import CostClock, with_cost
from eigenforget.training.engine import Engine, _Training, engine_beside
from eigenforget.training.losses import cross_entropy, kl_between
from eigenforget.training.phases import LossInputs, Optimizer, Phase
from eigenforget.training.processes import check_settings
from eigenforget.training.recipe import supervised
from tests import toys
from tests.training.test_processes import FORGET, RETAIN, Net, compare, penalty


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
        lr = optimizer.lr * optimizer.factor(step, steps=total)
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


def test_one_momentum_may_go_through_several_phases(engine: Engine) -> None:
    sources, hand = {"a": data(seed=1), "b": data(seed=2)}, net()
    found: dict[bool, nn.Module] = {}
    for continues in (True, False):
        phases = [
            Phase(name, (source,), ce, Optimizer(lr=lr, nesterov=False), 8, continues=go_on)
            for (name, source), lr, go_on in zip(
                sources.items(), (0.1, 0.05), (False, continues), strict=True
            )
        ]
        found[continues] = double(engine).fit(net(), phases, epochs=2, seed=4)
    sgd = torch.optim.SGD(hand.train().parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for epoch in range(2):
        for (name, source), lr in zip(sources.items(), (0.1, 0.05), strict=True):
            sgd.param_groups[0]["lr"] = lr
            for batch in source.batches(8, seeds.generator(4, "order", name, epoch)):
                sgd.zero_grad()
                nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
                sgd.step()
    pairs = zip(found[True].parameters(), hand.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)
    others = zip(found[True].parameters(), found[False].parameters(), strict=True)
    assert any((a - b).abs().max() > 1e-3 for a, b in others)


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
    sizes.clear()
    phase = Phase("p", (long, short), loss, Optimizer(lr=0.01), 8, other_batch_size=3)
    engine.fit(net().float(), [phase], epochs=1, seed=0)
    assert sizes == [(8, 3), (8, 3), (4, 3)]


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


class OwnTrain(nn.Sequential):
    """Keeps its first batch norm in eval mode, in the usual idiom of frozen statistics."""

    def train(self, mode: bool = True) -> OwnTrain:
        super().train(mode)
        self[1].eval()
        return self


def test_batch_norms_that_a_model_keeps_in_eval_mode_keep_their_statistics(engine: Engine) -> None:
    model = OwnTrain(
        nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
    )
    phase = Phase("p", (_float(data()),), ce, Optimizer(lr=0.01), 8)
    engine.fit(model, [phase], epochs=1, seed=0)
    assert model[1].num_batches_tracked == 0 and model[3].num_batches_tracked > 0


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
    size = lambda m: sum(float(p.detach().abs().sum()) for p in m.parameters())
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


class Reads(TorchDispatchMode):
    """Counts how often a value of a tensor is read, for which an accelerator would be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_reads_a_value(engine: Engine) -> None:
    def loss(first: LossInputs, second: LossInputs) -> Tensor:
        return ce(first).mean() + kl_between(first.teachers[0].logits, first.outputs.logits, 2.0)

    counts = []
    for steps in (2, 9):
        phase = Phase(
            "p",
            (_float(data()), _float(data(seed=2))),
            loss,
            Optimizer(lr=0.01, schedule="cosine", clip=1.0),
            8,
            teachers=(net(seed=3).float(),),
            penalty=lambda model, epoch: sum(p.abs().sum() for p in model.parameters()),
            steps_per_epoch=steps,
        )
        with Reads() as reads:
            engine.fit(net().float(), [phase], epochs=1, seed=0)
        counts.append(reads.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_no_tensor_of_a_step_outlives_the_next_one(
    accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small tensors that stay make holes between large ones: memory would grow with the steps."""
    seen: list[weakref.ref[Tensor]] = []
    step = _Training._step

    def watched(self: _Training, *args: Any) -> list[Tensor]:
        assert sum(ref() is not None for ref in seen) <= accumulate
        found = step(self, *args)
        seen.extend(weakref.ref(loss) for loss in found)
        return found

    monkeypatch.setattr(_Training, "_step", watched)
    rows: list[Any] = []
    engine = Engine(device="cpu", accumulate=accumulate)
    phase = Phase("plain", (data(23),), ce, Optimizer(lr=0.1), 5)
    engine.fit(net(), [phase], epochs=2, seed=0, log=rows.append)
    assert len(seen) == 2 * 5 and [row["loss"] > 0 for row in rows] == [True, True]


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


def _float(source: TensorSource) -> TensorSource:
    return TensorSource(source.inputs.float(), source.targets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 0}, "devices must be .*got 0"),
        ({"accumulate": 0}, "accumulate must be .*got 0"),
        ({"devices": 2, "strategy": "fsdp"}, "fsdp.*ddp"),
        ({"strategy": "dp"}, "'dp'.*auto, ddp"),
        ({"device": "cuda", "devices": 60}, "device 'cuda' on 60 devices"),
        ({"device": "cuda:61"}, "device 'cuda:61': torch finds .*take"),
        ({"device": "foo"}, "device 'foo' must be one of auto, cpu, cuda, .*cuda:1$"),
        ({"device": "mps"}, "device 'mps' must be one of auto, cpu, cuda, .*cuda:1$"),
        (
            {"precision": "foo"},
            "precision 'foo' must be one of "
            "32-true, 64-true, bf16-mixed, bf16-true, 16-mixed, 16-true$",
        ),
        ({"precision": "16-true"}, "'16-true' needs a GPU.*32-true, 64-true, bf16-mixed"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        Engine(**{"device": "cpu", **settings})


@pytest.mark.parametrize("precision", ["16-true", "16-mixed"])
def test_half_precision_is_refused_where_auto_is_the_processor(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(EigenforgetError, match=f"precision '{precision}' needs a GPU"):
        Engine(precision=precision)
    check_settings(precision="64-true")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_settings(precision=precision)


def test_an_engine_that_was_not_launched_says_so() -> None:
    engine = Engine(device="cpu", devices=2)
    for call in (
        lambda: engine.fit(Net(), [], epochs=1, seed=0),
        lambda: next(engine.forward(Net(), RETAIN)),
        lambda: CostClock(engine),
    ):
        with pytest.raises(EigenforgetError, match=r"2 devices.*engine\.fabric\.launch"):
            call()


def test_an_audit_that_trains_is_not_divided_and_follows_no_option_of_training() -> None:
    evidence, audit = (
        toys.evidence(toys.world(originals=1, oracles=1)),
        Relearning(budgets=(10,), steps=4),
    )
    wanted = audit(evidence, 0).scores
    other = Engine(device="cpu", accumulate=3)
    assert (
        audit(replace(evidence, engine=other), 0).scores == wanted and wanted[0].value is not None
    )
    alone = Engine(device="cpu", devices=2, compile=True).alone()
    assert (alone.processes.rank, alone.processes.count, alone.compile) == (0, 1, False)
    assert other.alone().meter is other.meter and other.accumulate == 3


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_accumulated_batches_are_one_larger_batch(schedule: str) -> None:
    """Batches of 8 end with one of 2 samples: the last group is (8, 2), weighted by its samples."""
    rows: dict[int, list[Any]] = {1: [], 2: []}
    found = {}
    for n in rows:
        engine = Engine(device="cpu", precision="64-true", accumulate=n)
        sgd = Optimizer(lr=0.1, schedule=schedule, clip=0.5)  # type: ignore[arg-type]
        phase = Phase("p", (RETAIN,), supervised, sgd, 16 // n, norm="frozen", penalty=penalty)
        model = engine.fit(Net().double(), [phase], epochs=3, seed=1, log=rows[n].append)
        found[n] = dict(model.state_dict())
        assert engine.meter.trained == 3 * len(RETAIN)
    compare({"": found[2]}, {"": found[1]}, rtol=1e-5, atol=1e-7)
    assert [row["loss"] for row in rows[2]] == pytest.approx(
        [row["loss"] for row in rows[1]], rel=1e-6
    )


def test_compiled_training_gives_the_same_weights_under_the_same_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[nn.Module] = []

    def record(model: nn.Module, real: Any = torch.compile, **more: Any) -> Any:
        compiled.append(model)
        return real(model, backend="eager")

    monkeypatch.setattr(torch, "compile", record)
    # All layers train: what is compiled is never cut, and batches of other sizes round differently.
    method = METHODS.parse("muda(alternations=2, batch_size=8, trained=1.0)")
    sides = {"forget": _single(FORGET), "retain": _single(RETAIN)}
    engines = [Engine(device="cpu", compile=flag) for flag in (False, True)]
    results = [
        eigenforget.unlearn(Net(), **sides, method=method, engine=engine, seed=1)
        for engine in engines
    ]
    assert compiled
    compare(
        {"": dict(results[1].state_dict())},
        {"": dict(results[0].state_dict())},
        rtol=1e-5,
        atol=1e-6,
    )
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in results[1].modules()
    )


def _single(source: TensorSource) -> TensorSource:
    return TensorSource(cast("Tensor", source.inputs).float(), source.targets)


def test_a_limit_on_gradients_means_those_of_the_loss_in_float16_too() -> None:
    """A loss that float16 scales up by 65,536 is far above any limit before it is scaled back."""
    scaler = torch.amp.GradScaler("cpu")
    half = Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))
    source = data(n=32)
    source = replace(source, inputs=source.inputs.float())
    seen: list[float] = []

    def moved(engine: Engine) -> Tensor:
        model = net().float()
        before = nn.utils.parameters_to_vector(model.parameters())
        phase = Phase(
            "clipped",
            (source,),
            ce,
            Optimizer(lr=0.1, momentum=0.0, weight_decay=0.0, clip=0.5),
            batch_size=8,
            on_gradients=lambda m: seen.append(
                float(
                    torch.stack(
                        [p.grad.norm() for p in m.parameters() if p.grad is not None]
                    ).norm()
                )
            ),
        )
        engine.fit(model, [phase], epochs=2, seed=0)
        return nn.utils.parameters_to_vector(model.parameters()) - before

    full = moved(Engine(device="cpu"))
    assert max(seen) == pytest.approx(0.5, abs=1e-5)
    seen.clear()
    assert torch.allclose(moved(Engine(device="cpu", fabric=half)), full, atol=2e-3)
    assert max(seen) == pytest.approx(0.5, abs=1e-3) and float(full.norm()) > 0.1


def test_a_device_without_float64_is_refused_and_never_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)  # what Fabric's auto takes
    assert Engine().fabric.device.type in ("cpu", "cuda")
    given = Fabric(accelerator="cpu")
    monkeypatch.setattr(Fabric, "device", torch.device("mps", 0))
    with pytest.raises(EigenforgetError, match=r"'mps'.*float64.*cpu"):
        Engine(fabric=given)


class OnAnotherGPU(nn.Module):
    def parameters(self, recurse: bool = True) -> Any:
        yield SimpleNamespace(device=torch.device("cuda:61"))


def test_without_an_engine_a_model_stays_on_its_gpu() -> None:
    here = nn.Linear(2, 2)
    with pytest.raises(EigenforgetError, match="device 'cuda:61'"):  # which no machine has
        engine_beside("a text", here, OnAnotherGPU())
    assert engine_beside("a text", here) == Engine()
    with pytest.raises(EigenforgetError, match="device 'cuda:61'"):
        with_cost(lambda model: model, OnAnotherGPU())


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True}, "bf16-mixed"),
        ({"architecture": "aarch64"}, "bf16-mixed"),
        ({}, "bf16-mixed"),
        ({"architecture": "x86_64", "avx512_bf16": False, "avx2": True}, "32-true"),
    ],
)
def test_bfloat16_is_taken_only_where_the_processor_computes_in_it(
    capabilities: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with collected() as lines:
        engine = Engine(device="cpu", precision="bf16-mixed")
        assert Engine(device="cpu").precision == "32-true"
    assert engine.precision == precision == engine.fabric._precision.precision
    assert len(lines) == (precision == "32-true")
    assert all("bf16-mixed" in line and "32-true" in line for line in lines)


def test_correct_is_in_the_order_of_the_samples() -> None:
    model, samples = net().float().eval(), _float(data(n=600))  # more than one batch
    with torch.no_grad():
        expected = model(samples.inputs).argmax(1) == samples.targets
    found = Engine(device="cpu").correct(model, samples)
    assert found.dtype == bool and 0 < found.sum() < 600
    assert found.tolist() == expected.tolist()


def test_a_phase_that_repeats_runs_as_often_as_it_asks_in_another_order_each_time() -> None:
    """Three passes in the first epoch and none in the second, each with a log row."""
    orders: list[list[int]] = []

    def loss(part: LossInputs) -> Tensor:
        orders.append(part.batch.positions.tolist())
        return ce(part)

    asked: list[int] = []

    def repeats(_: nn.Module, number: int) -> bool:
        asked.append(number)
        return len(asked) < 4

    rows: list[Any] = []
    first = Phase("first", (data(6),), loss, Optimizer(lr=0.1), 6, repeats=repeats)
    second = Phase("second", (data(6),), ce, Optimizer(lr=0.1), 6, continues=True)
    engine = double(Engine(device="cpu"))
    engine.fit(net(), [first, second], epochs=2, seed=0, log=rows.append)
    assert asked == [0, 1, 2, 3, 0]
    assert [row["phase"] for row in rows] == ["first"] * 3 + ["second"] * 2
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize(("capability", "refused"), [("AVX2", True), ("AVX512", False)])
def test_channels_last_is_refused_where_torch_would_crash(
    capability: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    engine = Engine(device="cpu", channels_last=True)
    for channels, stride, kernel in ((8, 2, 1), (4, 1, 1), (4, 2, 3)):
        engine.placed(nn.Sequential(nn.Conv2d(channels, 4, kernel, stride=stride)))
    small = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2))
    Engine(device="cpu").placed(small)
    refusal = pytest.raises(EigenforgetError, match="4 channels")
    with refusal if refused else nullcontext():
        engine.placed(small)


def test_batches_that_go_through_the_model_as_one_train_alike(engine: Engine) -> None:
    sources, teacher = (data(24), data(16, seed=2)), net(seed=3)
    calls: list[int] = []

    def both(first: LossInputs, second: LossInputs) -> Tensor:
        assert [len(part.batch.labels) for part in (first, second)] == [4, 4]
        drift = (second.outputs.features - second.teachers[0].features).square().mean()
        return ce(first).mean() + 2 * ce(second).mean() + drift

    trained = []
    for as_one in (False, True):
        model = net()
        model.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
        phase = Phase("p", sources, both, Optimizer(), 4, (teacher,), norm="frozen", as_one=as_one)
        double(engine).fit(model, [phase], epochs=2, seed=0)
        trained.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*trained, rtol=1e-12, atol=1e-14)
    assert calls == [4] * 24 + [8] * 12


def normalised_by(kept: Tensor, x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """Batch norm of x [B, D] with mean and biased variance of the rows `kept`, in plain torch."""
    mean = kept.mean(0)
    variance = (kept - mean).square().mean(0)
    return (x - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def test_the_last_source_normalises_all_samples_of_a_step(engine: Engine) -> None:
    """Against a hand-written loop; the gradient goes through the statistics for both sources."""
    sources = (data(12), data(16, seed=2))
    model, by_hand = net(), net()
    batches: list[tuple[LossInputs, ...]] = []

    def both(*parts: LossInputs) -> Tensor:
        batches.append(parts)
        return ce(parts[0]).mean() + 2 * ce(parts[1]).mean()

    phase = Phase(
        "p", sources, both, Optimizer(lr=0.3, momentum=0.0, nesterov=False, weight_decay=0.0), 4,
        as_one=True, normalised_by_last=True,
    )  # fmt: skip
    double(engine).fit(model, [phase], epochs=2, seed=0)
    first, norm, relu, head = cast("tuple[Any, ...]", by_hand)
    steps = torch.optim.SGD(by_hand.parameters(), lr=0.3)
    for forget, retained in batches:
        steps.zero_grad()
        asked, kept = first(forget.batch.inputs), first(retained.batch.inputs)
        losses = [
            ce(
                LossInputs(
                    part.batch, Outputs(head(relu(normalised_by(kept, x, norm))).float(), kept), ()
                )
            ).mean()
            for x, part in ((asked, forget), (kept, retained))
        ]
        (losses[0] + 2 * losses[1]).backward()
        steps.step()
        with torch.no_grad():
            norm.running_mean.lerp_(kept.mean(0), norm.momentum)
            norm.running_var.lerp_(kept.var(0), norm.momentum)
            norm.num_batches_tracked += 1
    assert len(batches) == 6
    expected = by_hand.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-11, atol=1e-13, msg=name)


def test_samples_that_cannot_be_joined_meet_the_running_statistics(engine: Engine) -> None:
    """Sequences of two lengths: the last source alone moves the statistics."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = net()[:3], nn.Linear(7, 3).double()
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            norm = cast("nn.BatchNorm1d", self.body[1])
            if x.shape[1] == 2 and self.training:
                plain = self.body[0](x.mean(1))
                mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
                normal = (plain - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias
                self.seen.append(self.body(x.mean(1)) - nn.functional.relu(normal))
            return cast("Tensor", self.head(self.body(x.mean(1))))

    whole = data(24)
    short, long = (
        TensorSource(whole.inputs[:, None].expand(-1, n, -1)[rows].clone(), whole.targets[rows])
        for n, rows in ((2, slice(0, 8)), (3, slice(8, 24)))
    )
    model = Pooled()
    phase = Phase(
        "p", (short, long), lambda *parts: ce(parts[0]).mean() + ce(parts[1]).mean(),
        Optimizer(lr=0.1), 4, as_one=True, normalised_by_last=True,
    )  # fmt: skip
    double(engine).fit(model, [phase], epochs=2, seed=0)
    assert len(model.seen) == 4
    assert max(float(rest.abs().max()) for rest in model.seen) < 1e-12
    assert int(cast("Tensor", model.body[1].num_batches_tracked)) > 0


@pytest.mark.parametrize("widths", [(5, 5), (4, 5)], ids=["joined", "apart"])
def test_a_batch_norm_without_statistics_of_its_own_trains_beside_the_last_source(
    engine: Engine, widths: tuple[int, int]
) -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(1, track_running_stats=False), nn.Linear(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return cast("Tensor", self.head(self.norm(x.sum(1, keepdim=True))))

    whole, model = data(24), Summed().double()
    sources = tuple(
        TensorSource(whole.inputs[rows, :width], whole.targets[rows])
        for width, rows in zip(widths, (slice(0, 8), slice(8, 24)), strict=True)
    )
    phase = Phase(
        "p", sources, lambda *parts: ce(parts[0]).mean() + ce(parts[1]).mean(),
        Optimizer(lr=0.1), 4, as_one=True, normalised_by_last=True,
    )  # fmt: skip
    before = copy.deepcopy(model)
    double(engine).fit(model, [phase], epochs=2, seed=0)
    assert not torch.equal(model.head.weight, before.head.weight)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed", "32-true"])
def test_a_model_in_training_is_looked_at_in_every_precision(precision: Any) -> None:
    """The training holds the model in its own type; data stay in float32."""
    engine, model = Engine(device="cpu", precision=precision), net().float()
    source = TensorSource(data().inputs.float(), data().targets)
    seen: list[Tensor] = []

    def look(student: nn.Module) -> dict[str, float]:
        ((batch, outputs),) = engine.forward(student, source)
        own = next(student.parameters()).dtype
        seen.append(outputs.logits - student.eval()(batch.inputs.to(own)).float())
        return {}

    phase = Phase("plain", (source,), ce, Optimizer(lr=0.01), 8)
    engine.fit(model, [phase], epochs=2, seed=0, look=look, log=lambda _: None)
    assert len(seen) == 2 and not any(rest.any() for rest in seen)


@pytest.mark.parametrize("by_last", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_batch_norms_keep_their_statistics_in_batches_of_one_sample(
    size: int, by_last: bool
) -> None:
    """BatchNorm1d cannot normalise one row by its own variance."""
    alone = size == 1 and not by_last  # else the eight rows of the last source normalise it
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.randn(8, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    sources = (TensorSource(x[:size], y[:size]), TensorSource(x[size:], y[size:]))
    phase = Phase(
        "forget",
        sources,
        lambda *parts: torch.stack([p.outputs.logits.square().mean() for p in parts]).sum(),
        Optimizer(lr=0.1),
        batch_size=4,
        as_one=by_last,
        normalised_by_last=by_last,
    )
    before = copy.deepcopy(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = Engine(device="cpu").fit(model, [phase], epochs=2, seed=0)
    assert any("one sample" in str(note.message) for note in said) == alone
    same = [torch.equal(a, b) for a, b in zip(found.buffers(), before.buffers(), strict=True)]
    assert same == [alone] * 3
    assert not torch.equal(found[0].weight, before[0].weight)  # type: ignore[index]
