"""A small plan that was run without an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget.experiments.bench import read_plan
from eigenforget.experiments.bench.results import write_out
from tests import bench_plans
from tests.experiments.bench.helpers import bench, timeless


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The small plan, run in this process: its folder, and the CSV table without times."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    made = bench(folder / "store", read_plan(folder / "plan.toml"))
    made.run(made.outline())
    write_out(made, folder / "out")
    return folder, timeless(folder / "out")
