"""Jobs are known by all that decides their results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eigenforget import record
from eigenforget.core.spec import parse
from eigenforget.experiments.bench.work import load_experiment
from eigenforget.experiments.model_cache import identity_of
from eigenforget.experiments.named_files import named_files
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from tests import bench_plans


def test_what_a_request_or_a_model_reads_from_files_is_part_of_the_cell(tmp_path: Path) -> None:
    ids, code = tmp_path / "ids.txt", tmp_path / "net.py"
    ids.write_text("\n".join(f"digit{i}" for i in range(3)), encoding="utf-8")
    code.write_text(
        "from torch import nn\ndef make(num_classes):\n    return nn.Linear(64, num_classes)\n",
        encoding="utf-8",
    )
    by_ids = {"request": parse(f"by_ids(path={str(ids)!r})", REQUESTS, "request")}
    own = {"model": parse(f"module(path={str(code) + ':make'!r})", MODELS, "model")}
    weights = identity_of(
        load_experiment(bench_plans.plan("identity()", **own).jobs[0].study, "cpu"), "original", 0
    )
    before = [bench_plans.plan("identity()", **changes).jobs[0].digest for changes in (by_ids, own)]
    assert before == [
        bench_plans.plan("identity()", **changes).jobs[0].digest for changes in (by_ids, own)
    ]
    ids.write_text("digit9", encoding="utf-8")
    code.write_text(code.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    after = [bench_plans.plan("identity()", **changes).jobs[0].digest for changes in (by_ids, own)]
    assert all(a != b for a, b in zip(before, after, strict=True))
    again = identity_of(
        load_experiment(bench_plans.plan("identity()", **own).jobs[0].study, "cpu"), "original", 0
    )
    assert weights != again, "weights of other code are other weights"
    assert (
        named_files(own["model"]) == {str(code) + ":make": record.file_digest(code)}
        and named_files("no such file") == {}
    )


def test_threads_of_a_processor_are_part_of_what_a_result_is_found_by() -> None:
    job = bench_plans.plan("identity()").jobs[0]
    assert "threads" not in job.study.identity, "results of one thread keep their names"
    other = replace(job, study=replace(job.study, threads=2))
    assert other.digest != job.digest and other.study.identity["threads"] == 2


def test_unseen_samples_are_part_of_a_study_that_has_some() -> None:
    plain, some = (bench_plans.plan("identity()", **c).jobs[0] for c in ({}, {"unseen": 0.25}))
    assert plain.digest != some.digest and "unseen" not in plain.study.identity
    experiment = load_experiment(some.study, "cpu")
    rows = len(experiment.unseen_rows)
    assert experiment.sizes()["test"] + rows == load_experiment(plain.study, "cpu").sizes()["test"]
    assert rows > 0 and experiment.origin.job["unseen"]["spec"] == "0.25"
