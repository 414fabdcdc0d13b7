"""Optimizers and their schedules; how long an epoch is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from eigenforget.data.sources import TensorSource
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

SOURCE = TensorSource(torch.zeros(21, 2), torch.zeros(21, dtype=torch.long))


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [1.0] * 5),
        ("cosine", [1.0, 0.5 * (1 + math.cos(0.1 * math.pi)), 0.9045085, 0.5, 0.0954915]),
        ("onecycle", [1e-3, 0.5, 1.0, 0.625, 0.125]),
    ],
)
def test_share_of_the_peak_rate(schedule: str, wanted: list[float]) -> None:
    optimizer = Optimizer(schedule=schedule)  # type: ignore[arg-type]
    assert [optimizer.factor(step, steps=10) for step in (0, 1, 2, 5, 9)][:3] == pytest.approx(
        [wanted[0], wanted[1], wanted[2]]
    )
    assert [optimizer.factor(step, steps=10) for step in (5, 8)] == pytest.approx(
        {"constant": [1, 1], "cosine": [0.5, 0.0954915], "onecycle": [0.625, 0.25]}[schedule]
    )


def test_a_triangle_rises_and_falls_and_drops_come_on_top() -> None:
    triangle = Optimizer(schedule="triangle")
    assert [triangle.factor(step, steps=10) for step in (0, 1, 5, 8)] == pytest.approx(
        [1e-3, 0.2, 1.0, 0.4]
    )
    stepped = Optimizer(drops=(0.4, 0.6, 0.8))
    assert [stepped.factor(step, steps=25) for step in (9, 10, 14, 15, 20)] == pytest.approx(
        [1.0, 0.1, 0.1, 0.01, 0.001]
    )


def test_kinds_of_optimizers() -> None:
    weights = [nn.Parameter(torch.ones(2))]
    sgd = Optimizer(lr=0.3, momentum=0.5, weight_decay=0.1).over(weights)
    assert isinstance(sgd, torch.optim.SGD)
    settings = sgd.param_groups[0]
    assert [settings[k] for k in ("lr", "momentum", "weight_decay", "nesterov")] == [
        0.3, 0.5, 0.1, True,
    ]  # fmt: skip
    assert not Optimizer(momentum=0.0).over(weights).param_groups[0]["nesterov"]
    adamw = Optimizer(kind="adamw", lr=0.2, weight_decay=0.1).over(weights)
    assert isinstance(adamw, torch.optim.AdamW) and adamw.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_steps_have_the_bits_of_torchs_loop_over_tensors(kind: str) -> None:
    shapes = ((64, 17), (17,), (3, 3, 5, 5), (1,))
    found, expected = ([nn.Parameter(torch.linspace(-1, 1, math.prod(s)).view(s)) for s in shapes]
                       for _ in range(2))  # fmt: skip
    ours = Optimizer(kind=kind, lr=0.05).over(found)  # type: ignore[arg-type]
    names = {"sgd": ("lr", "momentum", "nesterov", "weight_decay"), "adamw": ("lr", "weight_decay")}
    same = {name: ours.defaults[name] for name in names[kind]}
    theirs = type(ours)(expected, foreach=False, **same)
    generator = torch.Generator().manual_seed(0)
    for _ in range(9):
        for one, other in zip(found, expected, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    assert all(map(torch.equal, found, expected))


def test_steps_of_an_epoch() -> None:
    phase = Phase("p", (SOURCE,), supervised, Optimizer(), 8)
    assert phase.steps() == 3
    assert Phase("p", (SOURCE,), supervised, Optimizer(), 4).steps() == 5, "no batch of one sample"
    assert Phase("p", (SOURCE,), supervised, Optimizer(), 8, steps_per_epoch=11).steps() == 11
