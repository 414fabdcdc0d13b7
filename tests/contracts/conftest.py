"""The task of the tests of every method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eigenforget.methods.base import Task


@pytest.fixture(scope="session")
def task(task: Task) -> Task:
    """A part of the samples is enough for what holds of every method."""
    assert task.retain is not None
    few = task.retain.subset(np.arange(0, len(task.retain), 4))
    return replace(task, forget=task.forget.subset(np.arange(0, len(task.forget), 2)), retain=few)
