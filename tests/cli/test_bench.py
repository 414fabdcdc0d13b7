"""`eigenforget bench`: a dry run does nothing, and results are written while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget.cli.bench import Refresher
from eigenforget.experiments.bench import Bench, Store, pool_of
from eigenforget.experiments.bench.jobs import Job
from eigenforget.experiments.bench.work import JobOutcome
from tests import bench_plans
from tests.experiments.bench.helpers import run_command


def test_results_are_written_while_the_bench_runs(tmp_path: Path) -> None:
    bench = Bench(
        bench_plans.plan("head_mask()", "identity()"),
        Store.at(tmp_path / "store"),
        pool_of("sequential", threads=1),
    )
    refresh, rows = Refresher(bench, tmp_path / "out", seconds=0.0), []

    def done(job: Job, outcome: JobOutcome) -> None:
        refresh()
        path = tmp_path / "out" / "table.csv"
        rows.append(path.read_text(encoding="utf-8").count("\n") if path.exists() else 0)

    bench.run(bench.outline(), lambda stage, total: done)
    assert rows[2] == 1 and 1 < rows[3] < rows[4] < rows[5], (
        "three models, the retrained models' scores, and then each job's"
    )
    late = Refresher(bench, tmp_path / "late")
    late()
    assert not (tmp_path / "late").exists()


def test_a_dry_run_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    words = (
        "bench",
        str(tmp_path / "plan.toml"),
        "--store",
        str(tmp_path / "s"),
        "--out",
        str(tmp_path / "o"),
        "--dry-run",
    )
    assert run_command(*words) == 0
    text = capsys.readouterr().out
    assert "12 jobs; to do: 12 jobs, 6 models to train, 4 studies to measure; no estimate" in text
    assert (
        text.count("head_mask, seed") == 4
        and not (tmp_path / "s").exists()
        and not (tmp_path / "o").exists()
    )
