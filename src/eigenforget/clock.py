"""What it takes to make a model: wall and processor time, samples, peak memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from eigenforget.engine import Engine
from eigenforget.memory import peak_memory
from eigenforget.probing import Spent


class Made(NamedTuple):
    """A model, the wall seconds it took to make, and its cost in terms that load on the machine does not move.

    cost: cpu_seconds (all threads of all processes), trained_samples (forward and backward), forwarded_samples (forward only), and where
    it can be measured peak_memory_mib, of the device's allocator or of the whole process.
    """

    model: nn.Module
    seconds: float
    cost: Mapping[str, float]


class Clock:
    """Time, samples and peak memory of a block; made() after it."""

    def __init__(self, engine: Engine) -> None:
        self._ranks, self._meter, self._memory = engine.ranks, engine.meter, peak_memory(engine.fabric.device)

    def __enter__(self) -> Clock:
        self._before, self._peak = replace(self._meter), self._memory.__enter__()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: Any) -> None:
        self._seconds, self._cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self._memory.__exit__(*error)

    def made(self, model: nn.Module, without: Spent | None = None) -> Made:
        """`without`: what was spent inside the block on looking at the model, which is no part of making it."""
        aside = without or Spent()
        cost: dict[str, float] = {
            "cpu_seconds": round(self._ranks.summed(max(self._cpu - aside.cpu_seconds, 0.0)), 3),
            "trained_samples": self._meter.trained - self._before.trained,
            "forwarded_samples": self._meter.forwarded - self._before.forwarded,
        }
        if self._peak.mib is not None:
            cost["peak_memory_mib"] = round(self._peak.mib, 1)
        return Made(model, max(self._seconds - aside.seconds, 0.0), cost)
