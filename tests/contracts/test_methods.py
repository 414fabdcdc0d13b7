"""What every entry of METHODS must do; a new entry is tested for free."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.data.sources import TensorSource
from eigenforget.methods import (
    AMUN,
    METHODS,
    MUDA,
    REM,
    RUM,
    BoundaryShrink,
    Finetune,
    JiT,
    RandomLabel,
)
from eigenforget.methods.base import Method, Task
from eigenforget.methods.unlearn import run_method, unlearn
from eigenforget.models import checkpoint
from eigenforget.training.engine import Engine

QUICK: dict[str, dict[str, object]] = {
    "muda": {"alternations": 2, "batch_size": 32},
    "probed_muda": {"epochs": 1, "steps": 3, "batch_size": 32},
    "unseen_distill": {"epochs": 1, "stand_in_epochs": 1, "batch_size": 32},
    "fisher_forgetting": {"importance_samples": 100},
    "ssd": {"importance_samples": 100},
    "lfssd": {"importance_samples": 100},
    "wood_fisher": {"samples": 20},
    "influence": {"iterations": 3, "hessian_samples": 100},
    "unsir": {"noise_samples": 16, "noise_steps": 3, "repeats": 1},
    "collapse": {"steps": 5},
    "esc_t": {"epochs": 3},
    "sfr_on": {"forget_steps": 2},
    "amun": {"epochs": 1, "steps": 5},
    "jit": {"noises": 2},
    "potion": {"keep": 1.0},
    "rem": {"epochs": 1, "removals": 2},
    "uam": {"inner": Finetune(epochs=1)},
    "rum": {"medium": Finetune(epochs=1), "high": RandomLabel(epochs=1)},
    "certified_head": {"epsilon": 1e9},
    **{
        name: {"epochs": 1}
        for name in (
            "retrain",
            "finetune",
            "neg_grad_plus",
            "random_label",
            "bad_teacher",
            "l1_sparse",
            "boundary_shrink",
            "boundary_expand",
            "delete",
            "lotus",
            "not_",
            "cf_k",
            "eu_k",
            "head_distill",
            "gradient_ascent",
            "msg",
            "ct",
            "munba",
        )
    },
    "scrub": {"epochs": 2, "msteps": 1},
}
SAME_OUTPUT = {"identity"}  # a control that is meant to change nothing
EVERY = pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)


def quick(kind: type) -> Method:
    return kind(**QUICK.get(kind.name, {}))


class Run(NamedTuple):
    """A method's result, and the rows that it logged."""

    model: nn.Module
    rows: list[object]


@pytest.fixture(scope="module")
def ran(task: Task) -> Callable[[type], Run]:
    """The quick form of a method on the task: it runs once, for all that is asked of the result."""

    @cache
    def run(kind: type) -> Run:
        rows: list[object] = []
        torch.manual_seed(1)
        return Run(run_method(quick(kind), replace(task, log=rows.append)), rows)

    return run


@EVERY
def test_declares_what_it_is(kind: type) -> None:
    assert (
        kind.role in ("unlearned", "control")
        and kind.guarantee
        and kind.source
        and kind.needs
        and kind.passes
    )
    assert (kind.__doc__ or "").strip()


@EVERY
def test_moves_a_copy_and_leaves_the_input_bit_identical(
    kind: type, task: Task, ran: Callable[[type], Run]
) -> None:
    before, flags = (
        checkpoint.model_digest(task.model),
        [p.requires_grad for p in task.model.parameters()],
    )
    modes = [m.training for m in task.model.modules()]
    result = ran(kind).model
    assert checkpoint.model_digest(task.model) == before and result is not task.model
    assert [p.requires_grad for p in task.model.parameters()] == flags
    assert [m.training for m in task.model.modules()] == modes
    assert (checkpoint.model_digest(result) == before) == (kind.name in SAME_OUTPUT)
    added = getattr(kind, "adds", ())
    mine, theirs = result.state_dict(), task.model.state_dict()
    mine = {k: v for k, v in mine.items() if k.rpartition(".")[2] not in added}
    assert [(k, v.shape, v.dtype) for k, v in mine.items()] == [
        (k, v.shape, v.dtype) for k, v in theirs.items()
    ]
    assert all(torch.isfinite(v).all() for v in mine.values() if v.is_floating_point())
    assert len(mine) + len(added) == len(result.state_dict())
    assert not {p.data_ptr() for p in result.parameters()} & {
        p.data_ptr() for p in task.model.parameters()
    }
    assert all(p.requires_grad for p in result.parameters()) and not any(
        m.training for m in result.modules()
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in result.modules())


@EVERY
def test_the_given_model_keeps_its_memory_format(kind: type) -> None:
    """What runs on the engine's device and in its format is a copy."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4)
    )
    x, y = torch.randn(40, 1, 6, 6), torch.arange(40) % 4
    gone = y == 3
    engine = Engine(device="cpu", channels_last=True)
    task = Task(
        model,
        TensorSource(x[gone], y[gone]),
        TensorSource(x[~gone], y[~gone]),
        engine,
        seed=0,
        num_classes=4,
        forgotten_classes=(3,),
    )
    layout = [p.stride() for p in model.parameters()]
    with suppress(Refused):
        run_method(quick(kind), task)
    assert [p.stride() for p in model.parameters()] == layout


class Scaled(nn.Module):
    """Inputs by mean and deviation, in place as many a model does it, or in a new tensor."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(0.3).div_(0.5) if self.in_place else (x - 0.3) / 0.5


@EVERY
def test_a_model_that_changes_its_input_in_place_never_sees_a_changed_batch(kind: type) -> None:
    torch.manual_seed(0)
    seen = (nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten())
    body = nn.Sequential(*seen, nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    x, y = torch.randn(64, 6), torch.arange(64) % 4
    gone = y == 3
    results = [
        unlearn(
            nn.Sequential(Scaled(in_place=in_place), body),
            forget=(x[gone], y[gone]),
            retain=(x[~gone], y[~gone]),
            method=quick(kind),
            engine=Engine(device="cpu"),
        ).state_dict()
        for in_place in (False, True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(r.values() for r in results), strict=True))


@pytest.mark.parametrize(
    "kind", [AMUN, BoundaryShrink, Finetune, JiT, MUDA, REM, RUM], ids=lambda kind: kind.name
)
def test_data_of_float32_suit_an_engine_of_float64(kind: type) -> None:
    """Also where the training is watched, and where the method itself calls the model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    x, y = torch.randn(64, 6), torch.arange(64) % 4
    gone = y == 3
    found = unlearn(
        model,
        forget=(x[gone], y[gone]),
        retain=(x[~gone], y[~gone]),
        method=quick(kind),
        engine=Engine(device="cpu", precision="64-true"),
        log=lambda _: None,
    )
    before, after = model.state_dict(), found.state_dict()
    assert any(not torch.equal(before[key].double(), value) for key, value in after.items())


@EVERY
@pytest.mark.parametrize("more", [0, 1])
def test_logs_as_many_rows_as_a_progress_bar_expects(
    kind: type, task: Task, ran: Callable[[type], Run], more: int
) -> None:
    counts = {
        name: value + more
        for name, value in QUICK.get(kind.name, {}).items()
        if name in ("epochs", "alternations", "forget_steps")
    }  # type: ignore[operator]
    method, rows = kind(**(QUICK.get(kind.name, {}) | counts)), []  # type: ignore[var-annotated]
    if method == quick(kind):
        rows = ran(kind).rows  # type: ignore[assignment]
    else:
        run_method(method, replace(task, log=rows.append))
    assert len(rows) == method.log_rows


class Untouched:
    """Unseen samples that no method without the word in `needs` may read."""

    def __len__(self) -> int:
        return 10

    def labels(self) -> np.ndarray:
        """What the checks before a method look at."""
        return np.zeros(10, dtype=np.int64)

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"unseen samples were read: {name}")


@EVERY
def test_same_seed_same_bits_whatever_the_global_state_and_unseen_samples(
    kind: type, task: Task, ran: Callable[[type], Run]
) -> None:
    """Unseen samples are read only by who says so."""
    first = checkpoint.model_digest(ran(kind).model)
    reads = any("unseen" in need for need in kind.needs)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = run_method(quick(kind), task if reads else replace(task, unseen=Untouched()))
    assert checkpoint.model_digest(again) == first
    assert torch.equal(torch.get_rng_state(), state)  # and it leaves that as it was


@EVERY
def test_refuses_with_a_reason_when_retain_is_missing(kind: type, task: Task) -> None:
    bare = replace(task, retain=None)
    if any(need.startswith("retain") for need in kind.needs):
        with pytest.raises(Refused, match=f"{kind.name} needs retain data"):
            run_method(quick(kind), bare)
    else:
        assert isinstance(run_method(quick(kind), bare), nn.Module)


@EVERY
def test_wrong_models_and_labels_are_refused_before_work(kind: type, task: Task) -> None:
    broken = copy.deepcopy(task.model)
    with torch.no_grad():
        next(broken.parameters())[0] = float("nan")
    with pytest.raises(EigenforgetError, match=r"NaN or infinite values in \S+"):
        run_method(quick(kind), replace(task, model=broken))
    inputs, labels = task.forget.inputs, task.forget.targets  # type: ignore[attr-defined]
    with pytest.raises(
        EigenforgetError, match="label 12 is outside the model's head of 10 outputs"
    ):
        unlearn(task.model, forget=(inputs, labels + 9), retain=task.retain, method=quick(kind))
