"""Fixtures that several test modules share: tiny real data, a tiny model, one quick task."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: tiny kernels lose time to thread hand-over

import pytest
import torch

from eigenforget.data.digits import Digits
from eigenforget.engine import Engine
from eigenforget.jobs import Experiment
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.requests import ByClass
from eigenforget.training import Recipe
from eigenforget.types import Task

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(device="cpu")


@pytest.fixture(scope="session")
def digits(engine: Engine) -> Experiment:
    """Digits, a very small residual network, class 3 to be forgotten."""
    recipe = Recipe(epochs=8, batch_size=64)
    return Experiment(Digits(), SmallResnet(width=8), recipe, ByClass(label=3), engine)


@pytest.fixture(scope="session")
def trained(digits: Experiment) -> torch.nn.Module:
    return digits.train(seed=0).model


@pytest.fixture(scope="session")
def task(digits: Experiment, trained: torch.nn.Module) -> Task:
    return Task(
        model=trained,
        forget=digits.forget,
        retain=digits.retain,
        engine=digits.engine,
        seed=0,
        num_classes=10,
        forgotten_classes=(3,),
    )
