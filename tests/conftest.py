"""Fixtures that several test modules share: tiny real data, a tiny model, one quick task."""

# ruff: noqa: E402

from __future__ import annotations

import gc
import os

gc.disable()  # until all tests are collected: what is loaded until then stays anyway
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch loads: tiny kernels lose time to thread hand-over

import importlib.util
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


def _torchvision_without_operators() -> torch.library.Library | None:
    """Where the build of torchvision does not match torch, its import fails, and with it those of
    torchmetrics and timm. Declaring the two operators that it looks for is enough, as no test calls
    them."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        return declared
    return None


_OPERATORS = _torchvision_without_operators()  # kept, since the operators go with it

from eigenforget.core.locks import held
from eigenforget.data.digits import Digits
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods.base import Task
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.requests import ByClass
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--extras",
        action="store_true",
        help="collect tests/extras too, which need the libraries of `make test-extras`",
    )
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write the pages in tests/golden anew"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    extras = collection_path == Path(__file__).parent / "extras"
    return True if extras and not config.getoption("--extras") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that at the end no worker waits for another one's."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """From here on the collector looks at what tests make, and not at all that is loaded."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says what did not run, and why."""
    lines = [] if config.getoption("--extras") else ["tests/extras: run by `make test-extras`"]
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    lines += [f"{count} tests: {reason}" for reason, count in sorted(reasons.items())]
    if lines:
        terminalreporter.section("not run", sep="-")
        for line in lines:
            terminalreporter.write_line(line)


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


Shared = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Makes a folder once for the workers of this run together; nobody may write into it."""
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        found, whole = place / name, place / f"{name}.whole"
        with held(place / f"{name}.lock", wait=True):
            if not whole.exists():
                shutil.rmtree(found, ignore_errors=True)
                found.mkdir()
                make(found)
                whole.touch()
        return found

    return folder


@pytest.fixture(scope="session")
def uninterrupted(shared: Shared) -> tuple[Path, str]:
    """A small bench that was run in one process: its folder, and its CSV table without times."""
    from tests.experiments.bench.helpers import timeless

    folder = shared("uninterrupted", _run_small_bench)
    return folder, timeless(folder / "out")


def _run_small_bench(folder: Path) -> None:
    from eigenforget.experiments.bench import read_plan
    from eigenforget.experiments.bench.results import write_out
    from tests import bench_plans
    from tests.experiments.bench.helpers import bench

    (folder / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    run = bench(folder / "store", read_plan(folder / "plan.toml"))
    run.run(run.outline())
    write_out(run, folder / "out")
