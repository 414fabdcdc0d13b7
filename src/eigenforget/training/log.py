"""A log that also looks at the model after each epoch: how a training trace gets more than losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

Row = Mapping[str, Any]
Look = Callable[[nn.Module], Mapping[str, float]]


@dataclass
class Spent:
    """What looking took, so that it can be left out of what training is said to take."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Probed:
    """Calls `log` with each row. Who trains calls seen() first, which adds what `look` finds in the
    model at that moment.
    """

    log: Callable[[Row], None]
    look: Look
    spent: Spent = field(default_factory=Spent)

    def __call__(self, row: Row) -> None:
        self.log(row)

    def seen(self, row: Row, model: nn.Module) -> dict[str, Any]:
        """The row and what was found."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = {**row, **self.look(model)}
        self.spent.seconds += time.perf_counter() - wall
        self.spent.cpu_seconds += time.process_time() - cpu
        return found


def changed(log: Callable[[Row], None], change: Callable[[Row], Row]) -> Callable[[Row], None]:
    """A log that gets every row changed; one that looks at the model goes on doing so."""
    if isinstance(log, Probed):
        return Probed(lambda row: log.log(change(row)), log.look, log.spent)
    return lambda row: log(change(row))


Log = Callable[[Mapping[str, Any]], None]


Watch = Callable[[str, int], Log]
"""watch(title, total rows) -> a log to be called once per row: how a caller shows progress."""


def unwatched(title: str, total: int) -> Log:
    """Shows nothing."""
    return lambda row: None


def both(first: Log, second: Log) -> Log:
    """A log that hands each row to two."""

    def log(row: Mapping[str, Any]) -> None:
        first(row)
        second(row)

    return log
