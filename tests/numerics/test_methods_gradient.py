"""Methods that are gradient training: each against its own formula, written out again by hand in
float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.data.sources import DatasetSource, Source, TensorSource
from eigenforget.methods.bad_teacher import BadTeacher
from eigenforget.methods.base import Task
from eigenforget.methods.cf_k import CFk, last_layers
from eigenforget.methods.eu_k import EUk
from eigenforget.methods.gradient_ascent import GradientAscent
from eigenforget.methods.l1_sparse import L1Sparse
from eigenforget.methods.neg_grad_plus import NegGradPlus
from eigenforget.methods.not_ import NoT
from eigenforget.methods.retrain import Retrain
from eigenforget.methods.scrub import SCRUB, _hold_out
from eigenforget.models import checkpoint
from eigenforget.models.initialisation import reinitialise
from eigenforget.models.mlp import Mlp
from eigenforget.models.resnet18 import Resnet18
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.vit_tiny import VisionTransformer, VitTiny
from eigenforget.training.engine import Engine

Loss = Callable[[], Tensor]


def source(
    n: int, classes: tuple[int, ...], seed: int, shape: tuple[int, ...] = (6,)
) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes)[torch.arange(n) % len(classes)]
    inputs = torch.randn(n, *shape, generator=g, dtype=torch.float64)
    inputs.flatten(1)[torch.arange(n), labels] += 2.0
    return TensorSource(inputs, labels)


def task_of(model: nn.Module, forget: Source, retain: Source, gone: tuple[int, ...] = (2,)) -> Task:
    engine = Engine(device="cpu", precision="64-true")
    return Task(
        model=model,
        forget=forget,
        retain=retain,
        engine=engine,
        seed=3,
        num_classes=4,
        forgotten_classes=gone,
    )


@pytest.fixture
def small() -> Task:
    """Two linear layers on 4 classes, class 2 to be forgotten, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    return task_of(model, source(10, (2,), 1), source(30, (0, 1, 3), 2))


@pytest.fixture
def fitted() -> Task:
    """The same model, trained until it classifies all 30 forget and 30 retained samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    task, sgd = task_of(model, source(30, (2,), 1), source(30, (0, 1, 3), 2)), Sgd(model)
    inputs, labels = (
        torch.cat([getattr(s, name) for s in (task.forget, task.retain)])
        for name in ("inputs", "targets")
    )
    for _ in range(150):
        sgd.step(nn.functional.cross_entropy(model(inputs), labels), lr=0.1)
    return task


@pytest.fixture
def convolutions() -> Task:
    """Convolution and batch norm, twice, and a linear layer, with statistics that are not the
    initial ones.
    """
    return task_of(conv_net(0), source(10, (2,), 1, (1, 4, 4)), source(30, (0, 1, 3), 2, (1, 4, 4)))


def conv_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    blocks = [
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
    ]
    model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4, 4)).double().train()
    for _ in range(3):
        model(torch.randn(8, 1, 4, 4, dtype=torch.float64) * 2 + 1)
    return model.eval()


class Sgd:
    """Nesterov momentum with L2 penalty and a limit on the gradient norm, as torch defines them."""

    def __init__(self, model: nn.Module, names: Callable[[str], bool] = lambda name: True) -> None:
        self.parameters = [p for name, p in model.named_parameters() if names(name)]
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    def step(
        self,
        loss: Tensor,
        *,
        lr: float,
        momentum: float = 0.9,
        decay: float = 0.0,
        clip: float = 0.0,
    ) -> None:
        grads = torch.autograd.grad(loss, self.parameters)
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, grads, strict=True):
                g = g * scale + decay * p
                v.mul_(momentum).add_(g)
                p.sub_(lr * (g + momentum * v))


def batches(data: Source | None, size: int, phase: str, cycle: int, seed: int = 3) -> list[Any]:
    assert data is not None
    return list(data.batches(size, seeds.generator(seed, "order", phase, cycle)))


def ce(model: nn.Module, batch: Any) -> Tensor:
    """Mean cross-entropy, sample by sample."""
    probs = torch.softmax(model(batch.inputs), 1)
    return -sum(torch.log(probs[i, y]) for i, y in enumerate(batch.labels.tolist())) / len(
        batch.labels
    )  # type: ignore[return-value]


def kl(target: Tensor, logits: Tensor) -> Tensor:
    """mean_i Σ_c q_ic (log q_ic − log p_ic), entry by entry."""
    p = torch.softmax(logits, 1)
    total = sum(
        q * (torch.log(q) - torch.log(p[i, c]))
        for i, row in enumerate(target)
        for c, q in enumerate(row)
    )
    return total / len(target)  # type: ignore[return-value]


def assert_same(
    result: nn.Module, hand: nn.Module, original: nn.Module, moved: float = 1e-2
) -> None:
    for (name, a), b in zip(result.state_dict().items(), hand.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=2e-6), (
            name
        )  # losses are float32 in the engine
    pairs = zip(result.parameters(), original.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) > moved


def changed(result: nn.Module, original: nn.Module) -> set[str]:
    theirs = original.state_dict()
    return {
        name
        for name, tensor in result.state_dict().items()
        if not torch.equal(tensor, theirs[name])
    }


class Forbidden:
    """Data that must not be read."""

    def __len__(self) -> int:
        return 10

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the forget data was read: {name}")


# --- retrain
# ---------------------------------------------------------------------------------------------------------------


def test_retrain_owes_nothing_to_the_original_and_nothing_to_the_forget_data(
    convolutions: Task,
) -> None:
    method = Retrain(epochs=2, batch_size=8)
    state = torch.get_rng_state()
    first = method(replace(convolutions, forget=Forbidden()))
    assert torch.equal(torch.get_rng_state(), state)
    other = conv_net(99)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(7)
    assert changed(other, convolutions.model) == set(other.state_dict())
    assert checkpoint.model_digest(
        method(replace(convolutions, model=other))
    ) == checkpoint.model_digest(first)
    assert checkpoint.model_digest(
        method(replace(convolutions, seed=4))
    ) != checkpoint.model_digest(first)


def test_retrain_is_training_from_reset_weights(small: Task) -> None:
    method = Retrain(epochs=2, batch_size=8, lr=0.1, schedule="constant", weight_decay=0.01)
    hand = copy.deepcopy(small.model)
    torch.manual_seed(seeds.derive(3, "retrain"))
    for layer in (hand[2], hand[0]):  # type: ignore[index]
        layer.reset_parameters()
    start, sgd = copy.deepcopy(hand), Sgd(hand)
    for cycle in range(2):
        for batch in batches(small.retain, 8, "train", cycle):
            sgd.step(ce(hand, batch), lr=0.1, decay=0.01)
    assert_same(method(small), hand, start)


class Scaled(nn.Module):
    """A parameter and a buffer of its own, and a layer inside. `kind` says what its
    reset_parameters() does.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4).double()
        self.scale = nn.Parameter(torch.ones(4).double())
        self.register_buffer("count", torch.tensor(3))
        if kind != "none":
            self.reset_parameters = getattr(self, kind)

    def whole(self) -> None:
        with torch.no_grad():
            self.scale.normal_()
            self.count.zero_()  # type: ignore[operator]
            self.inner.bias.fill_(5.0)

    def partly(self) -> None:
        with torch.no_grad():
            self.scale[:2] = 0.5
            self.count.zero_()  # type: ignore[operator]

    def relative(self) -> None:
        with torch.no_grad():
            self.scale.fill_(1.0)
            self.count.add_(1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale


def test_retrain_refuses_tensors_that_are_not_reset_by_name(small: Task) -> None:
    cases = {
        "none": r"retrain cannot .* Scaled owns scale, count and has no reset_parameters\(\)",
        "partly": r"leaves \(part of\) scale as it was",
        "relative": r"leaves \(part of\) count as it was",
    }
    for kind, message in cases.items():
        model = Scaled(kind)
        with pytest.raises(Refused, match=message):
            reinitialise(dict(model.named_modules()), seed=0, method="retrain")
    with pytest.raises(Refused, match="retrain cannot draw every weight anew"):
        Retrain()(replace(small, model=Scaled("none")))


def test_a_containers_own_initialiser_has_the_last_word() -> None:
    model = Scaled("whole")
    reinitialise(dict(model.named_modules()), seed=0, method="retrain")
    assert (model.inner.bias == 5.0).all() and model.count == 0
    first = model.scale.detach().clone()
    reinitialise(dict(model.named_modules()), seed=1, method="retrain")
    assert not torch.equal(model.scale, first)


@pytest.mark.parametrize(
    "builder", [Mlp(hidden=(8,)), SmallResnet(width=4), Resnet18()], ids=lambda b: b.name
)
def test_models_of_the_project_are_reinitialised_whole(builder: Any) -> None:
    one, two = (builder.build(num_classes=4, input_shape=(1, 8, 8), seed=seed) for seed in (0, 1))
    start = {k: v.clone() for k, v in one.state_dict().items()}
    for model in (one, two):
        reinitialise(dict(model.named_modules()), seed=5, method="retrain")
    assert checkpoint.model_digest(one) == checkpoint.model_digest(two)
    assert all(not torch.equal(v, start[k]) for k, v in one.state_dict().items() if v.ndim > 1)


def test_a_transformers_class_token_needs_an_initialiser_on_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reset_parameters(self: nn.Module) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)  # type: ignore[arg-type]

    monkeypatch.setattr(VisionTransformer, "reset_parameters", reset_parameters, raising=False)
    one, two = (
        VitTiny(dim=6, depth=1).build(num_classes=4, input_shape=(1, 8, 8), seed=seed)
        for seed in (0, 1)
    )
    for model in (one, two):
        reinitialise(dict(model.named_modules()), seed=5, method="retrain")
    assert checkpoint.model_digest(one) == checkpoint.model_digest(two) and one.cls_token.std() > 0


# --- gradient ascent and NegGrad+
# ------------------------------------------------------------------------------------------


def test_gradient_ascent_climbs_the_forget_loss(small: Task) -> None:
    method = GradientAscent(
        epochs=2, steps_per_epoch=3, batch_size=5, lr=0.05, clip=0.3, weight_decay=0.01
    )
    hand = copy.deepcopy(small.model)
    sgd = Sgd(hand)
    for cycle in range(2):
        order = seeds.generator(3, "order", "forget", cycle)
        passes = [*small.forget.batches(5, order), *small.forget.batches(5, order)]
        for batch in passes[:3]:
            sgd.step(-ce(hand, batch), lr=0.05, decay=0.01, clip=0.3)
    result = method(replace(small, retain=None))
    assert_same(result, hand, small.model)
    whole = next(iter(small.forget.batches(10)))
    assert ce(result, whole) > ce(small.model, whole)


def test_gradient_ascent_with_frozen_norms_keeps_statistics(convolutions: Task) -> None:
    moved = changed(GradientAscent(norm="train")(convolutions), convolutions.model)
    kept = changed(GradientAscent(norm="frozen")(convolutions), convolutions.model)
    assert {"1.running_mean", "1.num_batches_tracked"} <= moved
    assert not any("running" in name or "tracked" in name for name in kept) and "0.weight" in kept


def neg_grad_plus_by_hand(
    task: Task, method: NegGradPlus, weights: tuple[float, float]
) -> nn.Module:
    hand = copy.deepcopy(task.model)
    sgd = Sgd(hand)
    for cycle in range(method.epochs):
        order = seeds.generator(3, "order", "retain and forget", cycle)
        # The engine draws the order of the forget data at the first step's second batch, that is,
        # after the retained data's.
        forget = endless(task.forget, method.batch_size, order)
        for kept in task.retain.batches(method.batch_size, order):  # type: ignore[union-attr]
            loss = weights[0] * ce(hand, kept) - weights[1] * ce(hand, next(forget))
            sgd.step(loss, lr=method.lr, decay=method.weight_decay, clip=method.clip)
    return hand


def endless(data: Source, size: int, order: torch.Generator) -> Iterator[Any]:
    while True:
        yield from data.batches(size, order)


def test_neg_grad_plus_weighs_descent_and_ascent(small: Task) -> None:
    method = NegGradPlus(
        epochs=2, alpha=0.7, batch_size=7, lr=0.05, schedule="constant", clip=0.5, weight_decay=0.01
    )
    result = method(small)
    assert_same(result, neg_grad_plus_by_hand(small, method, (0.7, 0.3)), small.model)
    without = NegGradPlus(
        epochs=2, alpha=1.0, batch_size=7, lr=0.05, schedule="constant", clip=0.5, weight_decay=0.01
    )
    other_data = replace(small, forget=source(10, (2,), 77))
    # At α = 1 the forget data has no weight at all.
    assert_same(without(other_data), neg_grad_plus_by_hand(small, without, (1.0, 0.0)), small.model)


# --- bad teacher
# -----------------------------------------------------------------------------------------------------------


class Watched(Task):
    """A task that remembers the teachers it lent."""

    def teacher(self) -> nn.Module:
        lent = super().teacher()
        self.__dict__.setdefault("lent", []).append(lent)
        return lent


def watched(task: Task) -> Watched:
    return Watched(**{name: getattr(task, name) for name in task.__dataclass_fields__})


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


def test_bad_teacher_teaches_each_sample_by_its_teacher(small: Task) -> None:
    method = BadTeacher(epochs=2, lr=0.02, temperature=2.0, retain_share=0.5, batch_size=6)
    seen = watched(small)
    result = method(seen)
    assert_same(result, bad_teacher_by_hand(small, method), small.model)
    incompetent, competent = seen.__dict__["lent"]
    assert checkpoint.model_digest(competent) == checkpoint.model_digest(small.model)
    assert changed(incompetent, small.model) == set(small.model.state_dict())
    assert not any(p.requires_grad for p in (*incompetent.parameters(), *competent.parameters()))


def test_bad_teacher_mixes_datasets_as_it_mixes_tensors(small: Task) -> None:
    method = BadTeacher(epochs=1, batch_size=6)
    parts = [
        DatasetSource(TensorDataset(s.inputs, s.targets)) for s in (small.forget, small.retain)
    ]  # type: ignore[union-attr]
    streamed = method(replace(small, forget=parts[0], retain=parts[1]))
    assert checkpoint.model_digest(streamed) == checkpoint.model_digest(method(small))
    assert checkpoint.model_digest(
        method(replace(small, retain=parts[1]))
    ) == checkpoint.model_digest(streamed)


# --- SCRUB
# -----------------------------------------------------------------------------------------------------------------

SCRUB_SETTINGS: dict[str, Any] = {
    "alpha": 0.4,
    "gamma": 0.8,
    "temperature": 2.0,
    "lr": 0.05,
    "batch_size": 8,
    "forget_batch_size": 5,
    "clip": 0.7,
    "weight_decay": 0.01,
    "schedule": "constant",
}


def scrub_by_hand(task: Task, epochs: int, msteps: int, schedule: str) -> nn.Module:
    hand, teacher, t = copy.deepcopy(task.model), task.model, 2.0

    def divergence(x: Tensor) -> Tensor:
        return t * t * kl(torch.softmax(teacher(x).detach() / t, 1), hand(x) / t)

    def obey(batch: Any) -> Tensor:
        return 0.4 * divergence(batch.inputs) + 0.8 * ce(hand, batch)

    up, down, alone = Sgd(hand), Sgd(hand), Sgd(hand)
    for cycle in range(msteps):
        for batch in batches(task.forget, 5, "forget", cycle):
            up.step(-divergence(batch.inputs), lr=0.05, decay=0.01, clip=0.7)
        for batch in batches(task.retain, 8, "recover", cycle):
            down.step(obey(batch), lr=0.05, decay=0.01, clip=0.7)
    done, steps = 0, (epochs - msteps) * 4
    for cycle in range(epochs - msteps):
        for batch in batches(
            task.retain, 8, "recover", cycle, seeds.derive(3, "scrub", "min epochs alone")
        ):
            factor = 0.5 * (1 + math.cos(math.pi * done / steps)) if schedule == "cosine" else 1.0
            alone.step(obey(batch), lr=0.05 * factor, decay=0.01, clip=0.7)
            done += 1
    return hand


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_scrub_takes_max_and_min_steps_and_then_min_steps_alone(schedule: str, small: Task) -> None:
    """Against the algorithm written out: a max and a min epoch, twice, and one more min epoch; in
    this order in the log.
    """
    rows: list[Any] = []
    seen = watched(replace(small, log=rows.append))
    result = SCRUB(epochs=3, msteps=2, **{**SCRUB_SETTINGS, "schedule": schedule})(seen)
    assert_same(result, scrub_by_hand(small, 3, 2, schedule), small.model)
    order = [(row["epoch"], row["phase"]) for row in rows]
    assert order == [(0, "forget"), (0, "recover"), (1, "forget"), (1, "recover"), (2, "recover")]
    (teacher,) = seen.__dict__["lent"]
    assert checkpoint.model_digest(teacher) == checkpoint.model_digest(small.model), (
        "the teacher never moves"
    )
    assert changed(result, small.model) == set(small.model.state_dict()), "the student does"


def test_scrub_max_steps_part_student_and_teacher_on_the_forget_data_only(fitted: Task) -> None:
    result = SCRUB(epochs=5, msteps=3, **SCRUB_SETTINGS)(fitted)
    with torch.no_grad():
        parts = [
            (s.inputs, torch.softmax(fitted.model(s.inputs), 1))
            for s in (fitted.forget, fitted.retain)
        ]  # type: ignore[union-attr]
        apart, together = (float(kl(target, result(x))) for x, target in parts)
    assert apart > 3 * together


REWIND: dict[str, Any] = {
    **SCRUB_SETTINGS,
    "gamma": 1.0,
    "alpha": 0.5,
    "clip": 0.0,
    "forget_batch_size": 15,
}


def test_scrub_rewinds_to_the_latest_epoch_nearest_to_the_reference(fitted: Task) -> None:
    """With a constant schedule, the state after epoch e of a run is the end of a run of e epochs."""
    ends = [SCRUB(epochs=e, msteps=min(e, 3), **REWIND)(fitted) for e in range(1, 7)]
    errors = [forget_error(model, fitted.forget) for model in ends]
    assert 2 < len(set(errors)) < 6, f"the test needs several errors and a tie, got {errors}"
    for target in (*errors, 0.05, 1.0):
        result = SCRUB(epochs=6, msteps=3, rewind=True, reference_error=target, **REWIND)(fitted)
        gaps = [abs(e - target) for e in errors]
        latest = max(i for i, gap in enumerate(gaps) if gap == min(gaps))
        assert checkpoint.model_digest(result) == checkpoint.model_digest(ends[latest])
        assert not result.training


def test_scrub_never_rewinds_to_the_original(fitted: Task) -> None:
    """The original has the reference error exactly, every state after an epoch is further away: the
    first one is returned.
    """
    settings = {**REWIND, "lr": 0.2, "forget_batch_size": 5}
    first = SCRUB(epochs=1, msteps=1, **settings)(fitted)
    assert forget_error(fitted.model, fitted.forget) == 0 < forget_error(first, fitted.forget)
    result = SCRUB(epochs=3, msteps=3, rewind=True, reference_error=0.0, **settings)(fitted)
    assert checkpoint.model_digest(result) == checkpoint.model_digest(first)


def forget_error(model: nn.Module, data: Source) -> float:
    batch = next(iter(data.batches(len(data))))
    with torch.no_grad():
        return sum(
            int(model(x[None]).argmax()) != int(y)
            for x, y in zip(batch.inputs, batch.labels, strict=True)
        ) / len(data)


def test_scrub_measures_its_reference_on_retained_samples_like_the_forget_data(
    fitted: Task,
) -> None:
    forget, retain = source(12, (0, 0, 1), 5), source(60, (0, 1, 3), 6)
    task = replace(fitted, forget=forget, retain=retain, forgotten_classes=())
    rest, held = _hold_out(retain, task, 0.25)
    labels = held.source.labels()
    assert np.bincount(labels, minlength=4).tolist() == [5, 5, 0, 0]
    assert [held.weights[labels == c].sum() for c in (0, 1)] == pytest.approx([8 / 12, 4 / 12])
    joined = torch.cat([rest.inputs, held.source.inputs])  # type: ignore[attr-defined]
    assert len(joined) == 60 and len({tuple(row.tolist()) for row in joined}) == 60, (
        "held-out samples are kept out"
    )
    final = SCRUB(epochs=6, msteps=3, **REWIND)(replace(task, retain=rest))
    with torch.no_grad():
        wrong = final(held.source.inputs).argmax(1) != held.source.targets  # type: ignore[attr-defined]
    reference = sum(
        share * float(wrong[labels == c].double().mean()) for c, share in ((0, 8 / 12), (1, 4 / 12))
    )
    given = SCRUB(epochs=6, msteps=3, rewind=True, reference_error=reference, **REWIND)(
        replace(task, retain=rest)
    )
    measured = SCRUB(epochs=6, msteps=3, rewind=True, held_out=0.25, **REWIND)(task)
    assert 0 < reference < 1 and checkpoint.model_digest(given) != checkpoint.model_digest(final), (
        "the test needs a rewind that matters"
    )
    assert checkpoint.model_digest(measured) == checkpoint.model_digest(given)


def test_scrub_refuses_what_it_cannot_do(small: Task) -> None:
    with pytest.raises(Refused, match=r"class 2 has 0 retain samples.*give reference_error"):
        SCRUB(rewind=True)(small)
    with pytest.raises(ValueError, match="msteps=4 must not exceed epochs=3"):
        SCRUB(epochs=3, msteps=4)


# --- l1-sparse
# -------------------------------------------------------------------------------------------------------------


def test_l1_sparse_adds_a_penalty_that_falls_linearly(small: Task) -> None:
    method = L1Sparse(
        epochs=4,
        plain_epochs=1,
        gamma=0.06,
        batch_size=8,
        lr=0.05,
        schedule="constant",
        weight_decay=0.01,
    )
    hand = copy.deepcopy(small.model)
    sgd = Sgd(hand)
    for cycle, gamma in enumerate([0.06, 0.04, 0.02, 0.0]):
        assert method.weight(cycle) == pytest.approx(gamma)
        for batch in batches(small.retain, 8, "recover", cycle):
            size = sum(w.abs() for p in hand.parameters() for w in p.flatten())
            sgd.step(ce(hand, batch) + gamma * size, lr=0.05, decay=0.01)  # type: ignore[arg-type]
    assert_same(method(replace(small, forget=Forbidden())), hand, small.model)


def test_l1_sparse_schedules() -> None:
    total, gamma = 5, 3e-4
    doubled = L1Sparse(epochs=total, gamma=2 * gamma)
    assert [doubled.weight(t) for t in range(total)] == pytest.approx(
        [(2 - 2 * t / total) * gamma for t in range(total)]
    )
    constant = L1Sparse(epochs=3, plain_epochs=1, gamma=0.5, penalty="constant")
    assert [constant.weight(t) for t in range(3)] == [0.5, 0.5, 0.0]
    with pytest.raises(ValueError, match="plain_epochs=2 must be below epochs=2"):
        L1Sparse(epochs=2, plain_epochs=2)


def test_l1_sparse_makes_weights_small(small: Task) -> None:
    norms = [
        sum(
            p.abs().sum().item()
            for p in L1Sparse(gamma=gamma, penalty="constant", batch_size=8)(small).parameters()
        )
        for gamma in (0.0, 0.2)
    ]
    assert norms[1] < 0.6 * norms[0]


# --- NoT
# -------------------------------------------------------------------------------------------------------------------


def test_not_negates_the_first_layer_and_nothing_else(convolutions: Task) -> None:
    negated, original = NoT().negated(convolutions), convolutions.model
    assert changed(negated, original) == {"0.weight", "0.bias"}
    x = convolutions.retain.inputs  # type: ignore[union-attr]
    assert torch.equal(negated[0](x), -original[0](x))  # type: ignore[index]
    chosen = NoT(layers=("3", "7", "7")).negated(convolutions)
    assert changed(chosen, original) == {"3.weight", "3.bias", "7.weight", "7.bias"}, (
        "a name given twice counts once"
    )
    with pytest.raises(Refused, match="layer '2' owns none"):
        NoT(layers=("2",)).negated(convolutions)
    with pytest.raises(EigenforgetError, match=r"no layer 'conv9'; the model has: 0, 1"):
        NoT(layers=("conv9",)).negated(convolutions)


def test_not_fine_tunes_the_negated_model_on_the_retained_data(small: Task) -> None:
    method = NoT(epochs=2, batch_size=8, lr=0.1, schedule="constant", weight_decay=0.01)
    hand = copy.deepcopy(small.model)
    with torch.no_grad():
        for parameter in hand[0].parameters():  # type: ignore[index]
            parameter.copy_(0.0 - parameter)
    start, sgd = copy.deepcopy(hand), Sgd(hand)
    for cycle in range(2):
        for batch in batches(small.retain, 8, "recover", cycle):
            sgd.step(ce(hand, batch), lr=0.1, decay=0.01)
    assert_same(method(replace(small, forget=Forbidden())), hand, start)


# --- CF-k and EU-k
# ---------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "lr": 0.05,
    "schedule": "constant",
    "weight_decay": 0.01,
}


def tail_by_hand(task: Task, start: nn.Module) -> nn.Module:
    """Train modules 3 to 7 of the convolutional net; the first norm uses and keeps the original's
    statistics.
    """
    hand = copy.deepcopy(start).train()
    hand[1].eval()  # type: ignore[index]
    sgd = Sgd(hand, lambda name: int(name[0]) >= 3)
    for cycle in range(2):
        for batch in batches(task.retain, 8, "recover", cycle):
            sgd.step(ce(hand, batch), lr=0.05, decay=0.01)
    return hand


def test_cf_k_fine_tunes_the_last_layers_and_no_other_bit(convolutions: Task) -> None:
    result = CFk(k=2, **SETTINGS)(replace(convolutions, forget=Forbidden()))
    assert_same(result, tail_by_hand(convolutions, convolutions.model), convolutions.model)
    tail = {name for name in result.state_dict() if int(name[0]) >= 3}
    assert changed(result, convolutions.model) == tail, (
        "statistics of the trained norm move, those of the frozen norm do not"
    )
    assert not any("train" in vars(module) or module.training for module in result.modules())
    copy.deepcopy(result).train()  # the modules are as other modules are
    assert all(module.training for module in result.train().modules())


def test_cf_k_counts_layers_from_the_end(convolutions: Task) -> None:
    assert changed(CFk(k=1, **SETTINGS)(convolutions), convolutions.model) == {"7.weight", "7.bias"}
    assert changed(CFk(k=3, **SETTINGS)(convolutions), convolutions.model) == set(
        convolutions.model.state_dict()
    )
    for kind in (CFk, EUk):
        with pytest.raises(
            Refused, match=rf"{kind.name}\(k=4\) needs a model with 4 .* this one has 3"
        ):
            kind(k=4)(convolutions)
    net = SmallResnet(width=4).build(num_classes=4, input_shape=(1, 8, 8), seed=0)
    layers = last_layers(net, 3, "cf_k")
    assert list(layers) == [
        "layer3.0.conv2",
        "layer3.0.bn2",
        *(f"layer3.0.downsample{i}" for i in ("", ".0", ".1")),
        "fc",
    ]


def test_cf_k_leaves_no_trace_after_a_failed_run(convolutions: Task) -> None:
    lent: list[nn.Module] = []

    class Lending(Task):
        def student(self) -> nn.Module:
            lent.append(super().student())
            return lent[-1]

    task = Lending(
        **{name: getattr(convolutions, name) for name in convolutions.__dataclass_fields__}
    )
    with pytest.raises(EigenforgetError, match="diverged"):
        CFk(k=2, lr=1e300)(task)
    assert not any("train" in vars(module) for module in lent[0].modules())


def test_eu_k_retrains_the_last_layers_from_new_weights(convolutions: Task) -> None:
    result, start = (
        EUk(k=2, **SETTINGS)(replace(convolutions, forget=Forbidden())),
        copy.deepcopy(convolutions.model),
    )
    torch.manual_seed(seeds.derive(3, "eu_k"))
    for index in (7, 4, 3):
        start[index].reset_parameters()  # type: ignore[index]
    assert start[4].running_mean.abs().max() == 0 and start[4].num_batches_tracked == 0  # type: ignore[index]
    assert_same(result, tail_by_hand(convolutions, start), start)
    assert changed(result, convolutions.model) == {
        name for name in result.state_dict() if int(name[0]) >= 3
    }


def test_eu_k_owes_nothing_to_the_layers_it_retrains(convolutions: Task) -> None:
    other = copy.deepcopy(convolutions.model)
    with torch.no_grad():
        for name, tensor in other.state_dict().items():
            if int(name[0]) >= 3:
                tensor.fill_(7)
    method = EUk(k=2, **SETTINGS)
    assert checkpoint.model_digest(
        method(replace(convolutions, model=other))
    ) == checkpoint.model_digest(method(convolutions))


def test_eu_k_trains_while_cf_k_keeps_what_the_frozen_layers_know(task: Task) -> None:
    """On digits: retraining the last layers forgets the class's outputs, and the retained classes
    stay.
    """
    result = EUk()(task)
    with torch.no_grad():
        hits = [
            (result(s.inputs).argmax(1) == s.targets).double().mean().item()
            for s in (task.forget, task.retain)
        ]  # type: ignore[union-attr]
    assert hits[0] < 0.05 and hits[1] > 0.97


@pytest.mark.parametrize(
    ("method", "highest", "lowest"),
    [
        (Retrain(epochs=8, batch_size=64), 0.02, 0.97),
        (GradientAscent(), 0.15, 0.85),
        (NegGradPlus(), 0.15, 0.97),
        (BadTeacher(), 0.2, 0.95),
        (SCRUB(), 0.1, 0.97),
        (NoT(), 0.1, 0.95),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_defaults_forget_a_digit_and_keep_the_others(
    method: Any, highest: float, lowest: float, task: Task
) -> None:
    result = method(task)
    with torch.no_grad():
        hits = [
            (result(s.inputs).argmax(1) == s.targets).double().mean().item()
            for s in (task.forget, task.retain)
        ]  # type: ignore[union-attr]
    assert hits[0] <= highest and hits[1] >= lowest, (
        f"forget accuracy {hits[0]:.3f}, retain accuracy {hits[1]:.3f}"
    )
