"""Logs: what is called with one row of numbers after each epoch of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

LogRow = Mapping[str, Any]
"""`epoch`, `phase`, `loss` and `seconds` of one epoch, and what a `Look` found in the model."""

Log = Callable[[LogRow], None]
"""Called with one row per epoch."""

Look = Callable[[nn.Module], Mapping[str, float]]
"""Numbers of a model in the middle of its training, by name."""

Watch = Callable[[str, int], Log]
"""watch(title, number of rows) -> a log to be called once per row: how a caller shows progress."""


def unwatched(*_: object) -> Log:
    """A `Watch` that shows nothing."""
    return lambda _: None


def both(first: Log, second: Log) -> Log:
    """A log that hands each row to two others, in this order."""

    def log(row: LogRow) -> None:
        first(row)
        second(row)

    return log
