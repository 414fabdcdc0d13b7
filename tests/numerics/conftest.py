"""Toy tasks of the numeric tests of methods."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from tests.numerics.method_toys import conv_net, source, task_of


@pytest.fixture
def small() -> Task:
    """Two linear layers without normalisation on 4 classes, class 2 to be forgotten, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 6, generator=g, dtype=torch.float64), torch.arange(40) % 4
    forget, retain = TensorSource(x[y == 2], y[y == 2]), TensorSource(x[y != 2], y[y != 2])
    return task_of(model, forget, retain)


@pytest.fixture
def shallow() -> Task:
    """Two linear layers on 4 classes, class 2 to be forgotten, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    return task_of(model, source(10, (2,), 1), source(30, (0, 1, 3), 2))


@pytest.fixture
def convolutions() -> Task:
    """Convolution and batch norm, twice, and a linear layer, with statistics that are not the
    initial ones.
    """
    return task_of(conv_net(0), source(10, (2,), 1, (1, 4, 4)), source(30, (0, 1, 3), 2, (1, 4, 4)))
