"""Benches: nothing done twice, and nothing lost or taken for whole, whatever dies and whenever."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eigenforget import record
from eigenforget.cli import main
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.experiments.bench import read_plan, work
from eigenforget.experiments.bench.results import write_out
from eigenforget.experiments.bench.run import unobserved
from eigenforget.experiments.bench.work import WorkerContext
from eigenforget.models import checkpoint
from eigenforget.requests import REQUESTS
from tests import bench_plans
from tests.experiments.bench.helpers import argv, bench, command, of_folder, run_command, timeless


def test_what_is_finished_is_not_done_again(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    folder = shutil.copytree(uninterrupted[0], tmp_path / "folder")
    before = {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("*.json")}
    again = bench(folder / "store", read_plan(folder / "plan.toml"))
    outline = again.outline()
    assert (
        outline.training,
        outline.baselines,
        outline.methods,
        outline.done,
        outline.seconds,
    ) == (
        (),
        (),
        (),
        {"ok": 12},
        0.0,
    )
    assert again.run(outline) == {}
    write_out(again, folder / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("*.json")}
    # A wider plan runs what is new only; its models are there already.
    wider = bench(
        folder / "store", bench_plans.plan("finetune(epochs=1)", "head_mask()", "identity()")
    )
    outline = wider.outline()
    assert (outline.training, outline.baselines) == ((), ()) and [
        job.name for job in outline.methods
    ] == ["identity"]
    assert outline.seconds is not None and 0 < outline.seconds < 3600


def test_refused_failed_and_buggy_jobs_are_on_record_and_cost_no_other(tmp_path: Path) -> None:
    plan = bench_plans.plan(
        "unsir()", bench_plans.Buggy(), "gradient_ascent(lr=1e30, epochs=2)", "head_mask()"
    )
    plan = plan._replace(jobs=(replace(plan.jobs[0], retain_fraction=0.0), *plan.jobs[1:]))
    made = bench(tmp_path / "store", plan)
    told: list[tuple[str, str, str]] = []
    assert made.run(
        made.outline(),
        lambda stage, total: (
            lambda job, outcome: told.append((job.title, outcome.status, outcome.reason))
        ),
    ) == {
        "refused": 1,
        "failed": 2,
        "ok": 1,
    }
    unsealed = {r.name: r for results in write_out(made, tmp_path / "out") for r in results.records}
    assert (
        unsealed["unsir 0%"].outcome.status == "refused"
        and "retain" in unsealed["unsir 0%"].outcome.reason
    )
    assert re.match(
        r"bench_plans\.py, line \d+: ZeroDivisionError: a bug of two lines",
        unsealed["buggy"].outcome.reason,
    )
    assert (
        unsealed["gradient_ascent"].outcome.status == "failed"
        and "diverged" in unsealed["gradient_ascent"].outcome.reason
    )
    assert ("buggy, seed 0", "failed", unsealed["buggy"].outcome.reason) in told
    # They are left alone until someone asks; then only they are run again.
    assert made.outline().methods == ()
    again = made.outline(retry=True)
    assert [job.name for job in again.methods] == [
        "unsir 0%",
        "buggy",
        "gradient_ascent",
    ] and again.done == {"ok": 1}
    assert (
        made.run(again, retry=True) == {"refused": 1, "failed": 2}
        and len(made.store.statuses()) == 4
    )
    text = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert "| `buggy` | – | no result | – |" in text


def test_an_original_that_diverges_fails_its_own_cells_only(tmp_path: Path) -> None:
    good = bench_plans.plan("head_mask()")
    bad = bench_plans.plan(
        "head_mask()", "identity()", recipe=replace(good.jobs[0].study.recipe, lr=1e30)
    )
    made = bench(tmp_path / "store", good._replace(jobs=(*good.jobs, *bad.jobs)))
    assert made.run(made.outline()) == {"failed": 2, "ok": 1}
    reasons = [
        r.outcome.reason
        for job in made.jobs()
        if (r := made.store.result(job)) and r.outcome.status == "failed"
    ]
    assert len(reasons) == 2 and all(
        "diverged" in reason and "seed" in reason for reason in reasons
    )


def test_data_that_changed_under_its_name_is_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 255, (60, 4, 4, 1), dtype=np.uint8),
        "y_train": np.arange(60) % 3,
    }
    arrays |= {
        "x_test": rng.integers(0, 255, (30, 4, 4, 1), dtype=np.uint8),
        "y_test": np.arange(30) % 3,
    }
    np.savez(tmp_path / "d.npz", **arrays)
    spec = parse(f"npz(path={str(tmp_path / 'd.npz')!r})", DATASETS, "data set")
    changes = {"data": spec, "request": parse("by_class(label=1)", REQUESTS, "request")}
    made = bench(tmp_path / "store", bench_plans.plan("head_mask()", **changes))
    assert made.run(made.outline()) == {"ok": 1}
    arrays["x_train"][0] += 1
    np.savez(tmp_path / "d.npz", **arrays)
    work._data.clear()
    more = bench(tmp_path / "store", bench_plans.plan("identity()", **changes))
    with pytest.raises(
        EigenforgetError,
        match=r"its content is not what it was when results in .* take another --store",
    ):
        more.outline()


def test_one_worker_is_one_process_and_another_one_than_this(tmp_path: Path) -> None:
    """It sees each original and retrained model once, and its death leaves the bench alive."""
    file = tmp_path / "pids"
    plan = bench_plans.plan(
        *(bench_plans.Signing(file=str(file), number=number) for number in range(3))
    )
    made = bench(tmp_path / "store", plan, "processes", 1)
    assert made.run(made.outline()) == {"ok": 3}
    pids = file.read_text(encoding="utf-8").split()
    assert len(pids) == 3 and len(set(pids)) == 1 and str(os.getpid()) not in pids


@pytest.mark.long
def test_a_worker_that_dies_costs_its_cell_only(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    """Killed once, the job is tried again and has a result; killed each time, it is on record as
    failed.
    """
    once, ever = (
        bench_plans.Deadly(count=str(tmp_path / str(times)), times=times)
        for times in (1, 1_000_000)
    )
    store = shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    plan = bench_plans.plan("finetune(epochs=2)", once, "gradient_ascent(epochs=2)", "identity()")
    made = bench(store, plan, "processes", 2)
    assert made.run(made.outline()) == {"ok": 4}
    assert len((tmp_path / "1").read_text(encoding="utf-8")) == 2
    found = [made.store.result(job) for job in made.jobs()]
    assert all(item is not None and item.outcome.status == "ok" for item in found)
    plan = bench_plans.plan(ever, "identity()")
    made = bench(store, plan, "processes", 2)
    assert made.run(made.outline()) == {"failed": 1}
    assert len((tmp_path / "1000000").read_text(encoding="utf-8")) == 2
    deadly = made.store.result(made.jobs()[0])
    assert deadly is not None and deadly.outcome.status == "failed"
    assert "its worker died" in deadly.outcome.reason and made.outline().methods == ()
    assert not list(store.glob("running/*/*"))


@pytest.mark.long
def test_killed_at_random_moments_a_bench_ends_with_the_same_results(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    _, expected = uninterrupted
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    moments, kills = random.Random(7), 0
    for _ in range(3):
        if kills == 2:  # the command alone, and with its workers; each start loads torch anew
            break
        process = subprocess.Popen(
            argv("--workers", "2"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        # Counted in lines of progress and not in seconds, so that a slow machine does not kill it
        # before it begins.
        for _ in range(moments.randint(2, 7)):
            process.stdout.readline()
        time.sleep(moments.random() * 0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if kills % 2 else process.kill()
            kills += 1
        process.wait()
        process.stdout.close()
    assert kills == 2
    assert run_command(*of_folder(tmp_path)) == 0
    assert timeless(tmp_path / "out") == expected
    jobs = list((tmp_path / "store" / "jobs").glob("*.json"))
    assert len(jobs) == 12 and all(record.read(path).outcome.status == "ok" for path in jobs)


@pytest.mark.long
def test_two_benches_share_a_store(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    _, expected = uninterrupted
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    other = subprocess.Popen(
        argv("--backend", "sequential", "--threads", "1", out="b"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    other.stdout.readline()  # it has loaded what this process has, and begins
    assert run_command(*of_folder(tmp_path, out="a")) == 0
    text, _ = other.communicate(timeout=900)
    assert other.returncode == 0, text
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b") == expected
    assert len(list((tmp_path / "store" / "models").glob("*.safetensors"))) == 2 + 4


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))


def test_a_full_disk_ends_with_one_line_and_no_half_result(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk: writing stops in the midst of a file."""
    _, expected = uninterrupted
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    full = command(tmp_path, "--workers", "1", "--threads", "1", preexec_fn=_small_files)
    assert (
        full.returncode == 2 and full.stderr.count("\n") == 1 and "cannot be written" in full.stderr
    ), full.stderr
    assert not list((tmp_path / "store").rglob("*.tmp"))
    for path in (tmp_path / "store" / "jobs").glob("*.json"):
        record.read(path)
    for path in (tmp_path / "store" / "models").glob("*.safetensors"):
        checkpoint.load_checkpoint(path)
    made = bench(tmp_path / "store", read_plan(tmp_path / "plan.toml"))
    made.run(made.outline())
    write_out(made, tmp_path / "out")
    assert timeless(tmp_path / "out") == expected


def test_a_damaged_model_and_a_damaged_result_are_named_and_made_anew(
    uninterrupted: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    model = sorted((tmp_path / "store" / "models").glob("oracle-*.safetensors"))[0]
    content = bytearray(model.read_bytes())
    content[-3] ^= 1
    model.write_bytes(content)
    for job in (tmp_path / "store" / "jobs").glob("*.json"):
        if record.read(job).name == "head_mask":
            job.unlink()
    kept = sorted((tmp_path / "store" / "jobs").glob("*.json"))[0]
    kept.write_text(
        kept.read_text(encoding="utf-8").replace('"value":', '"value": ', 1), encoding="utf-8"
    )
    work._last.clear()
    for status in (1, 0):
        assert run_command(*of_folder(tmp_path)) == status
        out, err = capsys.readouterr()
        if status == 1:
            assert model.name in out and "is damaged and is trained anew" in out
            doubts = [line for line in err.split("\n") if "a result is damaged" in line]
            assert len(doubts) == 1 and doubts[0].startswith("warning: ") and kept.name in doubts[0]
    assert timeless(tmp_path / "out") == uninterrupted[1]


def test_wrong_requests_and_folders_end_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(
        bench_plans.TEXT.replace("by_class(label=4)", "by_class(label=44)"), encoding="utf-8"
    )
    words = [
        "bench",
        str(tmp_path / "plan.toml"),
        "--store",
        str(tmp_path / "s"),
        "--out",
        str(tmp_path / "o"),
        "--device",
        "cpu",
    ]
    cases = [
        ([], "44"),
        (["--backend", "slum"], "backend 'slum'"),
        (["--workers", "0"], "workers must be 1 or more"),
    ]
    for more, message in cases:
        with pytest.raises(SystemExit) as caught:
            main([*words, *more])
        assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "s").exists() and not (tmp_path / "o").exists()


def test_a_failed_model_does_not_take_the_results_of_another_bench(tmp_path: Path) -> None:
    """Bench A looks, B does everything, then A's model fails: B's results stay."""
    plan = bench_plans.plan("head_mask()", "identity()")
    a, b = bench(tmp_path / "store", plan), bench(tmp_path / "store", plan)
    outline = a.outline()
    assert b.run(b.outline()) == {"ok": 2}
    for path in (tmp_path / "store" / "models").glob("*.safetensors"):
        path.unlink()
    context = WorkerContext(a.store)
    broken = {job.study: "out of memory" for job in outline.methods}
    a._run_methods(outline.methods, broken, context, unobserved)
    assert sorted(a.store.statuses().values()) == ["ok", "ok"]


def test_unknown_layers_end_before_anything_is_trained(tmp_path: Path) -> None:
    for changes, message in (
        ({"layer": "nope"}, "nope"),
        ({"layers": ("nope",)}, "nope"),
        ({"layers": ("0", "0")}, "must differ"),
    ):
        with pytest.raises(EigenforgetError, match=message):
            bench(tmp_path / "store", bench_plans.plan("identity()", **changes)).outline()
    assert not (tmp_path / "store" / "models").exists()


def test_workers_end_with_their_bench(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        bench_plans.TEXT.replace("epochs=1", "epochs=400"), encoding="utf-8"
    )
    process = subprocess.Popen(
        argv("--workers", "1", "--threads", "1"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    group = os.getpgid(process.pid)
    process.kill()
    process.wait()
    for _ in range(3_000):  # ends as soon as none is left
        living = [
            p
            for p in Path("/proc").glob("[0-9]*/stat")
            if (text := _read(p)) and text.rsplit(")", 1)[1].split()[2] == str(group)
        ]
        if not living:
            break
        time.sleep(0.2)
    process.stdout.close()
    assert not living


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
