"""Peak memory: about what a block allocates, for nested and overlapping blocks too, and no number
where there is none.
"""

import ctypes
import gc
import mmap
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.training import cost
from eigenforget.training.cost import CostClock, Peak, peak_memory, with_cost
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import train

MIB = 2**20


def allocate(mib):
    """Touches every page, since untouched ones are not resident, and gives the memory back.

    Asked of the kernel itself: malloc also serves large blocks from free memory of the heap, which
    is resident already and adds nothing.
    """
    with mmap.mmap(-1, mib * MIB) as block:
        for _ in range(mib):
            block.write(b"\1" * MIB)


@pytest.fixture(autouse=True)
def no_collection_meanwhile():
    """What earlier tests left goes back to the kernel before a block is measured, not while it is."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)
    gc.disable()
    yield
    gc.enable()


def measurable():
    with peak_memory() as peak:
        pass
    return peak.mib is not None


cpu = pytest.mark.skipif(
    sys.platform != "linux" or not measurable(),
    reason="this kernel does not let a process reset its high-water mark",
)


@cpu
@pytest.mark.parametrize("make", [allocate, lambda mib: torch.ones(mib * MIB, dtype=torch.uint8)])
def test_a_block_sees_what_it_allocates_although_it_gives_it_back(make):
    with peak_memory() as idle:
        pass
    with peak_memory() as peak:
        make(200)
    assert 195 < peak.added < 240
    assert peak.mib == peak.start + peak.added and peak.start < idle.mib + 20
    assert idle.added < 20


@cpu
def test_what_was_allocated_before_the_block_is_no_part_of_its_peak():
    allocate(300)
    with peak_memory("cpu") as peak:
        allocate(50)
    assert 45 < peak.added < 90


@cpu
def test_nested_blocks_each_have_the_peak_of_their_own_time():
    with peak_memory() as outer:
        allocate(200)
        with peak_memory() as inner:
            allocate(60)
            with peak_memory() as innermost:
                allocate(120)
        with peak_memory() as second:
            allocate(40)
    assert 195 < outer.added < 240
    assert 115 < inner.added < 160 and 115 < innermost.added < 160
    assert 35 < second.added < 80


@cpu
def test_an_inner_peak_counts_for_the_block_around_it_also_when_it_fails():
    with peak_memory() as outer, pytest.raises(ValueError, match="on purpose"), peak_memory():
        allocate(150)
        raise ValueError("on purpose")
    assert 145 < outer.added < 190
    assert not cost._OPEN["cpu"]


@cpu
def test_overlapping_blocks():
    first, second = peak_memory(), peak_memory()
    one = first.__enter__()
    allocate(40)
    two = second.__enter__()
    first.__exit__(None, None, None)
    allocate(150)
    second.__exit__(None, None, None)
    assert 35 < one.added < 80 and 145 < two.added < 190


def nothing(device="cpu"):
    with peak_memory(device) as peak:
        pass
    return peak == Peak(None, None) and peak.added is None


def test_no_number_where_the_counter_cannot_be_reset(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path)  # a directory cannot be written to
    assert nothing()
    monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path / "not" / "there")
    assert nothing()


def test_no_number_where_the_reset_does_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path / "ignored")
    monkeypatch.setattr(
        cost, "_STATUS", status(tmp_path, "VmHWM:\t  900000 kB", "VmRSS:\t  100000 kB")
    )
    assert nothing()


def test_no_number_without_the_counters(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path / "ignored")
    for path in (status(tmp_path, "Name:\tpython"), tmp_path / "absent"):
        monkeypatch.setattr(cost, "_STATUS", path)
        assert nothing()


def test_a_counter_that_is_lost_midway_leaves_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path / "ignored")
    monkeypatch.setattr(cost, "_STATUS", status(tmp_path, "VmHWM:\t  2048 kB", "VmRSS:\t  1024 kB"))
    with peak_memory() as peak:
        assert (peak.mib, peak.start) == (2.0, 1.0)
        cost._STATUS.unlink()
    assert peak.mib is None and peak.added is None


def test_kib_are_read_as_mib(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path / "ignored")
    monkeypatch.setattr(cost, "_STATUS", status(tmp_path, "VmHWM:\t  2048 kB", "VmRSS:\t  2048 kB"))
    with peak_memory() as peak:
        status(tmp_path, "VmHWM:\t  10240 kB", "VmRSS:\t  3072 kB")
    assert (peak.mib, peak.start, peak.added) == (10.0, 2.0, 8.0)


def test_other_devices_have_no_number():
    assert nothing("mps") and nothing("meta")
    if not torch.cuda.is_available():
        assert nothing("cuda") and nothing("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_counts_what_the_allocator_gives_out():
    kept = torch.ones(10 * MIB, dtype=torch.uint8, device="cuda")
    with peak_memory("cuda") as outer:
        torch.ones(200 * MIB, dtype=torch.uint8, device="cuda")
        with peak_memory("cuda") as inner:
            torch.ones(50 * MIB, dtype=torch.uint8, device="cuda")
    assert outer.added == pytest.approx(200, abs=4) and inner.added == pytest.approx(50, abs=4)
    assert outer.start >= kept.numel() / MIB


def status(folder: Path, *lines: str) -> Path:
    path = folder / "status"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_clock_leaves_out_what_looks_at_the_model(monkeypatch):
    wall, cpu = iter([0.0, 10.0, 13.0, 20.0]), iter([0.0, 1.0, 1.5, 4.0])
    engine = Engine(device="cpu")
    engine.meter.trained = 7
    with monkeypatch.context() as patch:
        patch.setattr(cost.time, "perf_counter", lambda: next(wall))
        patch.setattr(cost.time, "process_time", lambda: next(cpu))
        with CostClock(engine) as clock:
            assert clock.leaving_out(lambda model: {"bias": float(model.bias.detach())})(
                nn.Linear(1, 1)
            ).keys()
            engine.meter.trained += 5
            engine.meter.forwarded += 2
    model = nn.Linear(1, 1)
    found = clock.result(model)
    assert found.model is model and found.seconds == 17.0
    numbers = ("cpu_seconds", "trained_samples", "forwarded_samples")
    assert [found.cost[name] for name in numbers] == [3.5, 5, 2]


def test_with_cost_counts_what_a_function_takes():
    x, y = torch.randn(8, 3), torch.arange(8) % 2
    counted = with_cost(train, nn.Linear(3, 2), (x, y), "recipe(epochs=3, batch_size=4)")
    assert counted.cost["trained_samples"] == 24 and counted.seconds > 0
    assert isinstance(counted.model, nn.Linear)
    own = nn.Linear(3, 2)
    assert with_cost(lambda model: model, own).model is own
    with pytest.raises(EigenforgetError, match=r"must return an nn\.Module, got int"):
        with_cost(lambda: 1)
