"""The results folder: names, tables, and what is mended or removed."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from eigenforget.core.spec import spell
from eigenforget.experiments.bench import read_plan
from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.experiments.bench.results import names_of, write_out
from tests import bench_plans
from tests.experiments.bench.helpers import bench


def test_one_setting_of_a_method_has_one_name_throughout_a_plan(tmp_path: Path) -> None:
    first = bench_plans.plan("finetune(epochs=2)", seed=1)
    both = (
        bench_plans.plan("finetune(epochs=1)", seed=0),
        bench_plans.plan("finetune(epochs=1)", "finetune(epochs=2)", seed=1),
    )
    jobs = (*first.jobs, *both[0].jobs, *both[1].jobs)
    names = names_of(jobs)
    by_spec = {(spell(c.method), names[c.digest]) for c in jobs}
    assert by_spec == {("finetune()", "finetune"), ("finetune(epochs=1)", "finetune 2")}


def test_a_failed_setting_stands_in_the_table(tmp_path: Path) -> None:
    bad = bench_plans.plan("head_mask()", recipe=replace(bench_plans.study().recipe, lr=1e30))
    made = bench(tmp_path / "store", bad)
    made.run(made.outline())
    (results,) = write_out(made, tmp_path / "out")
    assert [r.outcome.status for r in results.records] == ["failed"]
    assert (
        "diverged" in (tmp_path / "out" / "table.csv").read_text(encoding="utf-8")
        and (tmp_path / "out" / "leaderboard.md").exists()
    )


def test_results_are_mended_and_problems_that_are_gone_are_removed(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    made = bench(tmp_path / "store", read_plan(uninterrupted[0] / "plan.toml"))
    write_out(made, tmp_path / "out")
    before = {
        p.relative_to(tmp_path): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file() and p.suffix != ".parquet"
    }
    for path in (
        sorted((tmp_path / "out").rglob("records/*.json"))[0],
        sorted((tmp_path / "out").rglob("records/*.json"))[-1],
    ):
        path.write_text("{", encoding="utf-8")
    write_out(made, tmp_path / "out")
    assert before == {
        p.relative_to(tmp_path): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file() and p.suffix != ".parquet"
    }
    (tmp_path / "out" / "mine").mkdir()
    fewer = made.plan._replace(
        jobs=tuple(c for c in made.plan.jobs if "label=3" in spell(c.study.request))
    )
    write_out(bench(tmp_path / "store", fewer), tmp_path / "out")
    assert [p.name for p in sorted((tmp_path / "out").iterdir()) if p.is_dir()] == [
        "digits-mlp-by_class-label-3",
        "mine",
    ]


def test_the_tables_have_a_row_for_each_score(uninterrupted: tuple[Path, str]) -> None:
    results = uninterrupted[0]
    with (results / "out" / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    experiments = read_experiments(results / "out")
    assert len(rows) == sum(
        len(r.scores) for p in experiments.values() for records in p.seeds for r in records
    )
    one = next(
        r for r in rows if r["name"] == "finetune" and r["score"] == "da" and r["seed"] == "1"
    )
    (record,) = [r for r in experiments[one["experiment"]].seeds[1] if r.name == "finetune"]
    assert (
        float(one["value"]) == next(s.value for s in record.scores if s.name == "da")
        and one["method"] == "finetune(epochs=1)"
    )
    parquet = (
        pytest.importorskip("pyarrow.parquet")
        .read_table(results / "out" / "table.parquet")
        .to_pylist()
    )
    assert [(p["name"], p["score"], p["value"]) for p in parquet] == [
        (r["name"], r["score"], float(r["value"]) if r["value"] else None) for r in rows
    ]
