"""What it takes to make a model: wall and processor time, samples, peak memory."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.training.engine import Engine, engine_beside
from eigenforget.training.log import Look


class ModelAndCost(NamedTuple):
    """A model with what it took to make it.

    Attributes:
        model: The model.
        seconds: Wall time.
        cost: Terms that do not depend on the load of the machine: `cpu_seconds` (all threads of all
            processes), `trained_samples` (forward and backward), `forwarded_samples` (forward only)
            and, where it can be measured, `peak_memory_mib` of the device's allocator or of the
            whole process.
    """

    model: nn.Module
    seconds: float
    cost: Mapping[str, float]


class CostClock:
    """Measures time, samples and peak memory of a block: `with CostClock(engine) as clock: …`."""

    def __init__(self, engine: Engine) -> None:
        self._processes, self._meter = engine.processes, engine.meter
        self._memory = peak_memory(engine.fabric.device)

    def __enter__(self) -> CostClock:
        self._before, self._peak = replace(self._meter), self._memory.__enter__()
        self._wall, self._cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *error: Any) -> None:
        self._wall += time.perf_counter()
        self._cpu += time.process_time()
        self._memory.__exit__(*error)

    def leaving_out(self, look: Look) -> Look:
        """The same look, but its time does not count: it is no part of making the model."""

        def timed(model: nn.Module) -> Mapping[str, float]:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return look(model)
            finally:
                self._wall -= time.perf_counter() - wall
                self._cpu -= time.process_time() - cpu

        return timed

    def result(self, model: nn.Module) -> ModelAndCost:
        """The model that was made in the block, with its cost. To be called after the block."""
        cost: dict[str, float] = {
            "cpu_seconds": round(self._processes.summed(max(self._cpu, 0.0)), 3),
            "trained_samples": self._meter.trained - self._before.trained,
            "forwarded_samples": self._meter.forwarded - self._before.forwarded,
        }
        if self._peak.mib is not None:
            cost["peak_memory_mib"] = round(self._peak.mib, 1)
        return ModelAndCost(model, max(self._wall, 0.0), cost)


def with_cost(make: Callable[..., nn.Module], *arguments: Any, **keywords: Any) -> ModelAndCost:
    """Call a function that makes a model, and count what it takes.

    `evaluate` takes the result of `with_cost(unlearn, original, forget=…, retain=…,
    method="muda()")` like a model, and its verdict can then say what the model cost. A function of
    your own works too; samples are counted if it takes an `engine`.

    Args:
        make: `unlearn`, `train`, or a function of your own that returns a model.
        *arguments: Its arguments.
        **keywords: Its keyword arguments. If `make` takes an `engine` and none is given, it
            receives a fresh one.

    Returns:
        The model with its cost.

    Raises:
        EigenforgetError: `make` returns something other than a module.
    """
    engine = keywords.get("engine") or engine_beside(*arguments, *keywords.values())
    if "engine" in inspect.signature(make).parameters:
        keywords = {**keywords, "engine": engine}
    with CostClock(engine) as clock:
        model = make(*arguments, **keywords)
    if not isinstance(model, nn.Module):
        name = getattr(make, "__name__", "the function")
        raise EigenforgetError(f"{name} must return an nn.Module, got {type(model).__name__}")
    return clock.result(model)


_MIB = 2.0**20
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_SLACK = 16.0
"""MiB by which the peak may exceed the memory in use right after a reset; other threads may free
some in between.
"""


@dataclass
class Peak:
    """Memory of a block in MiB, to be read after it; None where it cannot be measured.

    Attributes:
        mib: The most that was in use at once while the block ran.
        start: What was in use when it began.
    """

    mib: float | None = None
    start: float | None = None

    @property
    def added(self) -> float | None:
        """The most that was in use beyond what was in use at the start."""
        return None if self.mib is None or self.start is None else self.mib - self.start


class _Reading(NamedTuple):
    peak: float
    now: float


_OPEN: dict[str, list[Peak]] = {}
"""Blocks that run now, by device. There is one counter per device, and whoever resets it must first
tell the other blocks what it says.
"""


@contextmanager
def peak_memory(device: torch.device | str = "cpu") -> Iterator[Peak]:
    """Measure the peak of memory while a block runs.

    `with peak_memory("cuda") as peak: …`, and then `peak.mib`. On CUDA this is what torch's
    allocator handed out on that device. On a CPU it is the resident memory of this process (VmHWM),
    including the interpreter and its libraries but not child processes. It is known only on Linux,
    and only where the kernel lets a process reset its own high-water mark. Elsewhere the values are
    None.

    Blocks may be nested or overlap in threads: each has the peak of its own time. The counters are
    the whole process's, so a block also counts what other threads allocate. Code that resets them
    by itself makes the result too low.
    """
    place = torch.device(device)
    blocks = _OPEN.setdefault(str(place), [])
    _note(blocks, _read(place))
    peak = Peak()
    started = _restarted(place)
    if started is not None:
        peak.mib, peak.start = started.peak, started.now
        blocks.append(peak)
    try:
        yield peak
    finally:
        if started is not None:
            _note(blocks, _read(place))
            # By identity: two blocks with equal numbers are equal dataclasses.
            blocks[:] = [block for block in blocks if block is not peak]


def _note(blocks: list[Peak], reading: _Reading | None) -> None:
    for block in blocks:
        block.mib = None if block.mib is None or reading is None else max(block.mib, reading.peak)


def _restarted(place: torch.device) -> _Reading | None:
    """The counter right after its reset; None where it cannot be reset."""
    if place.type == "cuda" and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats(place)
    elif place.type == "cpu":
        try:
            _CLEAR_REFS.write_text("5")
        except OSError:
            return None
    reading = _read(place)
    # Kernels before 4.0 take the write and do nothing: then the peak is that of the whole process.
    return reading if reading is not None and reading.peak <= reading.now + _SLACK else None


def _read(place: torch.device) -> _Reading | None:
    if place.type == "cuda" and torch.cuda.is_available():
        return _Reading(
            torch.cuda.max_memory_allocated(place) / _MIB, torch.cuda.memory_allocated(place) / _MIB
        )
    if place.type != "cpu":
        return None
    try:
        rows = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        peak, now = (float(rows[name].split()[0]) / 1024 for name in ("VmHWM", "VmRSS"))
    except (OSError, KeyError):
        return None
    return _Reading(peak, now)
