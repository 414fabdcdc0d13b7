"""The store holds whole results only, and a result is never replaced by a failure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from eigenforget.experiments.bench import Bench, Store, pool_of, read_plan, work
from eigenforget.experiments.bench.results import write_out
from eigenforget.experiments.bench.work import load_experiment
from tests import bench_plans
from tests.experiments.bench.helpers import timeless


def test_a_second_try_takes_the_place_of_the_first(tmp_path: Path) -> None:
    job = bench_plans.plan("head_mask()").jobs[0]
    experiment, store = load_experiment(job.study, "cpu"), Store(tmp_path)
    bad = work.failure_record(job, experiment, work.Failure("failed", "it broke"))
    store.write_result(job, bad)
    assert store.statuses() == {job.digest: "failed"}
    store.write_result(job, replace(bad, outcome=replace(bad.outcome, status="ok", reason="")))
    assert (
        store.statuses() == {job.digest: "ok"}
        and len(list((tmp_path / "jobs").glob("*.json"))) == 1
    )
    assert store.write_result(job, bad).outcome.status == "ok" and store.statuses() == {
        job.digest: "ok"
    }, "a result stays"
    [path] = (tmp_path / "jobs").iterdir()
    path.rename(path.with_name(path.name.replace(".ok.", ".failed.")))
    assert store.result(job) is None, "what it says of itself is not what its name says"


def test_anchors_are_there_only_when_all_of_them_are(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    """A damaged one is named, and all are measured anew although every job is finished."""
    shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    told: list[str] = []
    plan = read_plan(uninterrupted[0] / "plan.toml")
    made = Bench(plan, Store.at(tmp_path / "store", told.append), pool_of("sequential", threads=1))
    study = made.jobs()[0].study
    found = made.store.baselines(study)
    assert found is not None and [r.role for r in found.records] == ["original", "oracle", "oracle"]
    assert found.values == [{s.name: s.value for s in item.scores} for item in found.records[1:]]
    folder = tmp_path / "store" / "baselines" / study.digest[7:]
    (folder / "01-oracle-1.json").write_text(
        (folder / "01-oracle-1.json").read_text(encoding="utf-8")[:-20], encoding="utf-8"
    )
    outline = made.outline()
    assert (
        [task.study for task in outline.baselines] == [study]
        and outline.methods == ()
        and outline.training == ()
    )
    assert (
        len(told) == 1
        and "01-oracle-1.json" in told[0]
        and not (folder / "01-oracle-1.json").exists()
    )
    work._last.clear()
    made.run(outline)
    write_out(made, tmp_path / "out")
    assert timeless(tmp_path / "out") == uninterrupted[1]
    # Two that have changed places are none of it.
    (folder / "01-oracle-1.json").rename(folder / "x")
    (folder / "02-oracle-2.json").rename(folder / "01-oracle-1.json")
    (folder / "x").rename(folder / "02-oracle-2.json")
    assert made.store.baselines(study) is None and "'oracle 1'" in told[-1]
    # A record of another study under this name is none of it.
    other = next(path for path in (tmp_path / "store" / "baselines").iterdir() if path != folder)
    shutil.copy(other / "02-oracle-2.json", folder / "02-oracle-2.json")
    assert made.store.baselines(study) is None and study.digest in told[-1]
