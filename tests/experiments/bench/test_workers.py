"""Who does the work: a Ray cluster of two workers, Slurm's own way of running jobs, numbers of
workers and threads, missing libraries.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import shutil
import sys
from pathlib import Path

import joblib
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.bench import Bench, Pool, Store, pool_of
from eigenforget.experiments.bench.work import load_experiment
from eigenforget.record import weights_digest
from tests import bench_plans


def test_cores_are_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert pool_of("processes") == Pool("processes", 4, 2)
    assert pool_of("processes", workers=1) == pool_of("processes", 1, 2)
    assert pool_of("sequential") == Pool("sequential", 1, 2)
    assert pool_of("sequential", threads=3) == Pool("sequential", 1, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert pool_of("processes") == Pool("processes", 8, 1)
    assert pool_of("processes", workers=3) == Pool("processes", 3, 2)
    assert pool_of("processes", threads=4) == Pool("processes", 2, 4)
    assert pool_of("processes", workers=16) == Pool("processes", 16, 1)
    assert pool_of("processes", 5, 5) == Pool("processes", 5, 5)
    assert pool_of("sequential") == Pool("sequential", 1, 8)


def test_wrong_pools_are_named() -> None:
    for words, message in (
        (("slum",), "backend 'slum'; there are processes, sequential, ray, slurm"),
        (("processes", 0), "workers must be 1 or more, got 0"),
        (("processes", 10**6), "workers must be 100,000 or less, got 1000000"),
        (("processes", 1, -1), "threads must be 1 or more, got -1"),
    ):
        with pytest.raises(EigenforgetError) as caught:
            pool_of(*words)  # type: ignore[arg-type]
        assert str(caught.value) == message


@pytest.mark.parametrize(("backend", "library"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_library_is_named_with_its_extra(
    backend: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        EigenforgetError,
        match=rf"--backend {backend} needs {library}.*pip install 'eigenforget\[{backend}\]'",
    ):
        pool_of(backend)


def test_a_store_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EigenforgetError, match="is a file; a store is a folder"):
        Store.at(tmp_path / "file")


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_a_local_ray_cluster_of_two_workers(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    """The same results as in one process; a worker that dies costs its job only."""
    ray = importlib.import_module("ray")
    try:
        plan = bench_plans.plan(
            "finetune(epochs=1)",
            "head_mask()",
            bench_plans.Deadly(count=str(tmp_path / "count")),
            "gradient_ascent(epochs=1)",
        )
        here = Store.at(uninterrupted[0] / "store")
        there = Bench(plan, Store.at(tmp_path / "there"), pool_of("ray", 2, 1))
        assert there.run(there.outline()) == {"ok": 3, "failed": 1}
        assert ray.is_initialized() and ray.cluster_resources()["CPU"] == 2
        for job in there.jobs():
            mine, theirs = here.result(job), there.store.result(job)
            assert theirs is not None
            if job.name != "deadly":
                assert mine is not None and mine.scores == theirs.scores
    finally:
        ray.shutdown()


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs the extra slurm")
def test_jobs_as_slurm_runs_them(
    uninterrupted: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit's local cluster starts the very jobs that it would hand to Slurm, as processes.

    submitit looks for ended jobs every 10 s, and for the result of a dead one for 15 s.
    """
    submitit = importlib.import_module("submitit")
    often = functools.partial(submitit.helpers.as_completed, poll_frequency=0.1)
    monkeypatch.setattr(submitit.helpers, "as_completed", often)
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)
    store = shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    plan = bench_plans.plan("identity()", bench_plans.Deadly(count=str(tmp_path / "count")))
    made = Bench(plan, Store.at(store), pool_of("slurm", 2, 1)._replace(cluster="local"))
    here = load_experiment(made.jobs()[0].study, "cpu")
    oracle = made.store.cache(1).path_for(here, "oracle", 10)
    before = weights_digest(oracle)
    oracle.unlink()
    outline = made.outline()
    assert (len(outline.training), len(outline.baselines), len(outline.methods)) == (1, 0, 2)
    assert made.run(outline) == {"ok": 1, "failed": 1}
    assert weights_digest(oracle) == before
    dead = made.store.result(made.jobs()[1])
    assert dead is not None and "Slurm job" in dead.outcome.reason
    assert len((tmp_path / "count").read_text(encoding="utf-8")) == 2
