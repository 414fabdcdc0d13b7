"""The page of MUDA: settings in words, and each verdict with what decides against it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from eigenforget.core.spec import spell
from eigenforget.experiments.bench.plan import read_plan
from eigenforget.methods import METHODS
from eigenforget.record.store import read_folder
from eigenforget.report.table import build
from eigenforget.report.verdict import verdicts

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
muda_page: Any = importlib.import_module("muda_page")


def test_a_row_has_the_verdict_of_the_records_and_the_scores_against_it() -> None:
    records = read_folder(ROOT / "tests" / "golden" / "records")
    found = {v.model: v for v in verdicts(build(records))}
    own = muda_page.judged(records)
    assert [j.verdict.line for j in own] == [v.line for v in found.values()]
    rows = muda_page.table([own, own]).splitlines()[2:]
    assert len(rows) == len(found)
    shown = 0
    for name, row in zip(found, rows, strict=True):
        against = [s for s in found[name].scores if s.position != "like oracles"]
        assert row.count(found[name].outcome) == 2
        assert all(f"{s.gap:+.1f}" in row for s in against)
        shown += len(against)
    assert shown > 0


def test_points_are_beside_the_mean_of_the_retrained_models() -> None:
    records = read_folder(ROOT / "tests" / "golden" / "records")
    values = {
        r.name: s.value for r in records for s in r.scores if s.name == "test_retain_accuracy"
    }
    mean = sum(values[f"oracle {i}"] for i in (1, 2, 3)) / 3
    for judged in muda_page.judged(records):
        if judged.verdict.model not in values:
            assert judged.points is judged.share is None
            continue
        assert judged.points == pytest.approx(100 * (values[judged.verdict.model] - mean))


def test_settings_of_the_plan_have_names_of_their_own() -> None:
    plan = read_plan(ROOT / "benchmarks" / "plans" / "muda.toml")
    specs = {spell(job.method) for job in plan.jobs}
    names = {muda_page.setting({"method": {"spec": s}}, METHODS.parse(s).name) for s in specs}
    assert len(names) == len(specs) and set(muda_page.NAMES) <= specs
    few = {"method": {"spec": "muda()"}, "retain_fraction": 0.01}
    assert muda_page.setting(few, "muda 1%") == "`muda()`, 1% of the retained data"
