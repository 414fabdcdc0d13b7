"""Jobs: the numbers of a study, and whatever a method raises costs its own job only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from eigenforget import record
from eigenforget.experiments.bench import Store, work
from eigenforget.experiments.bench.jobs import BaselineJob
from eigenforget.experiments.bench.results import write_out
from eigenforget.experiments.bench.work import WorkerContext, do, load_experiment
from eigenforget.experiments.study import Study
from tests import bench_plans
from tests.experiments.bench.helpers import bench, scores


def test_a_bench_gives_the_numbers_of_a_study(tmp_path: Path) -> None:
    plan = bench_plans.plan("finetune(epochs=1)", "muda(alternations=1)", "head_mask()", skip=())
    first = bench(tmp_path / "store", plan._replace(jobs=plan.jobs[:1]))
    assert first.run(first.outline()) == {"ok": 1}
    # what follows takes the retrained models' values from the store, as another process would
    work._last.clear()
    made = bench(tmp_path / "store", plan)
    assert made.run(made.outline()) == {"ok": 2}
    (results,) = write_out(made, tmp_path / "out")
    experiment = load_experiment(plan.jobs[0].study, "cpu")
    study = Study(experiment, [job.method for job in plan.jobs], seed=0, oracle_seeds=(10, 11))
    assert scores(results.records) == scores(study.records())
    chain = record.read_folder(tmp_path / "out" / results.folder / "records")
    assert [r.name for r in chain] == [
        "original",
        "oracle 1",
        "oracle 2",
        "finetune",
        "muda",
        "head_mask",
    ]
    assert {r.job["job_digest"] for r in chain[3:]} == {job.digest for job in made.jobs()}


def test_a_task_that_another_bench_works_on_is_left_for_later(tmp_path: Path) -> None:
    job = bench_plans.plan("head_mask()").jobs[0]
    store = Store(tmp_path)
    context = WorkerContext(Store(tmp_path))
    with store.locked(f"method-{job.digest[7:]}", wait=True):
        assert do(job, context).status == "busy"
    with store.locked(f"baselines-{job.study.digest[7:]}", wait=True):
        assert do(BaselineJob(job.study), context).status == "busy"
    assert not list(tmp_path.glob("running/*/*"))


def test_a_job_leaves_the_threads_of_the_program_as_they_were(tmp_path: Path) -> None:
    job, before = bench_plans.plan("head_mask()").jobs[0], torch.get_num_threads()
    with Store(tmp_path).locked(f"method-{job.digest[7:]}", wait=True):
        do(job, WorkerContext(Store(tmp_path), threads=before + 1))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("AssertionError('no')", "AssertionError: no"),
        ("OSError(2, 'gone')", "FileNotFoundError: [Errno 2] gone"),
        ("SystemExit(3)", "SystemExit: 3"),
        ("Own('mine')", "Own: mine"),
        ("ValueError('\\ud800')", r"ValueError: \ud800"),
        ("ValueError('x' * 9999)", "x" * 400),
        ("nan", "not plain JSON"),
    ],
)
def test_whatever_a_method_raises_costs_its_cell(
    what: str, reason: str, uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    store = shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    made = bench(store, bench_plans.plan(bench_plans.Raising(what=what), "identity()"))
    assert made.run(made.outline()) == {"failed": 1, "ok": 1}
    found = made.store.result(made.jobs()[0])
    assert found is not None and reason in found.outcome.reason and len(found.outcome.reason) < 600
    assert not list(store.glob("running/*"))
