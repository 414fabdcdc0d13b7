"""What the numeric tests of methods share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.training.engine import Engine


@pytest.fixture
def small() -> Task:
    """Two linear layers without normalisation on 4 classes, class 2 to be forgotten, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 6, generator=g, dtype=torch.float64), torch.arange(40) % 4
    forget, retain = TensorSource(x[y == 2], y[y == 2]), TensorSource(x[y != 2], y[y != 2])
    return Task(
        model=model,
        forget=forget,
        retain=retain,
        engine=Engine(device="cpu", precision="64-true"),
        seed=3,
        num_classes=4,
        forgotten_classes=(2,),
    )
