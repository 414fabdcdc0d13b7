"""Benches: the numbers of a study, nothing done twice, and nothing lost or taken for whole,
whatever dies and whenever.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenforget import record
from eigenforget.cli import main
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse, spell
from eigenforget.data import DATASETS
from eigenforget.experiments.bench import Bench, pool_of, read_plan, store_of, work
from eigenforget.experiments.bench.results import names_of, write_out
from eigenforget.experiments.bench.store import Store
from eigenforget.experiments.bench.work import Home, Task, do, experiment_of
from eigenforget.experiments.model_cache import identity_of, named_files
from eigenforget.experiments.study import Study
from eigenforget.models import MODELS, checkpoint
from eigenforget.requests import REQUESTS
from tests import bench_plans


def bench(store: Path, plan: Any, backend: str = "sequential", workers: int = 1) -> Bench:
    return Bench(plan, store_of(store), pool_of(backend, workers, 1))


def command(
    folder: Path, *more: str, seconds: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """`eigenforget bench plan.toml` in a process of its own."""
    words = [
        sys.executable,
        "-m",
        "eigenforget.cli",
        "bench",
        "plan.toml",
        "--store",
        "store",
        "--out",
        "out",
        "--device",
        "cpu",
        *more,
    ]
    return subprocess.run(
        words, cwd=folder, text=True, capture_output=True, timeout=seconds, check=False, **options
    )


def scores(records: Any) -> dict[str, dict[str, float | None]]:
    return {r.name: {s.name: s.value for s in r.scores} for r in records}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The small plan, run in this process: its folder, and the CSV table without times."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    made = bench(folder / "store", read_plan(folder / "plan.toml"))
    made.run(made.outline())
    write_out(made, folder / "out")
    return folder, timeless(folder / "out")


def timeless(out: Path) -> str:
    """Problems, models, scores, values and verdicts: what must not depend on when, where and how
    often a bench was stopped.
    """
    lines = (out / "table.csv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",")
    dropped = {columns.index("seconds"), columns.index("cpu_seconds")}
    rows = [line.split(",", 9) for line in lines]
    return "\n".join(
        ",".join(part for i, part in enumerate(row) if i not in dropped) for row in rows
    )


def test_a_bench_gives_the_numbers_of_a_study(tmp_path: Path) -> None:
    plan = bench_plans.plan("finetune(epochs=1)", "muda(alternations=1)", "head_mask()", skip=())
    first = bench(tmp_path / "store", plan._replace(cells=plan.cells[:1]))
    assert first.run(first.outline()) == {"ok": 1}
    # what follows takes the retrained models' values from the store, as another process would
    work._last.clear()
    made = bench(tmp_path / "store", plan)
    assert made.run(made.outline()) == {"ok": 2}
    (place,) = write_out(made, tmp_path / "out")
    experiment = experiment_of(plan.cells[0].setting, "cpu")
    study = Study(experiment, [cell.method for cell in plan.cells], seed=0, oracle_seeds=(10, 11))
    assert scores(place.records) == scores(study.records())
    chain = record.read_folder(tmp_path / "out" / place.folder / "records")
    assert [r.name for r in chain] == [
        "original",
        "oracle 1",
        "oracle 2",
        "finetune",
        "muda",
        "head_mask",
    ]
    assert {r.job["cell"] for r in chain[3:]} == {cell.digest for cell in made.cells()}


def test_what_is_finished_is_not_done_again(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = uninterrupted
    before = {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("*.json")}
    again = bench(folder / "store", read_plan(folder / "plan.toml"))
    outline = again.outline()
    assert (outline.models, outline.settings, outline.cells, outline.done, outline.seconds) == (
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
    assert (outline.models, outline.settings) == ((), ()) and [
        task.cell.name for task in outline.cells if task.cell
    ] == ["identity"]
    assert outline.seconds is not None and 0 < outline.seconds < 60


def test_refused_failed_and_buggy_cells_are_on_record_and_cost_no_other(tmp_path: Path) -> None:
    plan = bench_plans.plan(
        "unsir()", bench_plans.Buggy(), "gradient_ascent(lr=1e30, epochs=2)", "head_mask()"
    )
    plan = plan._replace(cells=(replace(plan.cells[0], retain_fraction=0.0), *plan.cells[1:]))
    made = bench(tmp_path / "store", plan)
    told: list[tuple[str, str, str]] = []
    assert made.run(
        made.outline(),
        lambda stage, total: (
            lambda task, answer: told.append((task.title, answer.status, answer.reason))
        ),
    ) == {
        "refused": 1,
        "failed": 2,
        "ok": 1,
    }
    unsealed = {r.name: r for place in write_out(made, tmp_path / "out") for r in place.records}
    assert (
        unsealed["unsir 0%"].outcome.status == "refused"
        and "retain" in unsealed["unsir 0%"].outcome.reason
    )
    assert (
        "ZeroDivisionError: a bug of two lines (bench_plans.py:" in unsealed["buggy"].outcome.reason
    )
    assert (
        unsealed["gradient_ascent"].outcome.status == "failed"
        and "diverged" in unsealed["gradient_ascent"].outcome.reason
    )
    assert ("buggy, seed 0", "failed", unsealed["buggy"].outcome.reason) in told
    # They are left alone until someone asks; then only they are run again.
    assert made.outline().cells == ()
    again = made.outline(again=True)
    assert [task.cell.name for task in again.cells if task.cell] == [
        "unsir 0%",
        "buggy",
        "gradient_ascent",
    ] and again.done == {"ok": 1}
    assert made.run(again) == {"refused": 1, "failed": 2} and len(made.store.statuses()) == 4
    text = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert "| `buggy` | – | no result | – |" in text


def test_an_original_that_diverges_fails_its_own_cells_only(tmp_path: Path) -> None:
    good = bench_plans.plan("head_mask()")
    bad = bench_plans.plan(
        "head_mask()", "identity()", recipe=replace(good.cells[0].setting.recipe, lr=1e30)
    )
    made = bench(tmp_path / "store", good._replace(cells=(*good.cells, *bad.cells)))
    assert made.run(made.outline()) == {"failed": 2, "ok": 1}
    reasons = [
        r.outcome.reason
        for cell in made.cells()
        if (r := made.store.result(cell)) and r.outcome.status == "failed"
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


@pytest.mark.parametrize("times", [1, 1_000_000])
def test_a_worker_that_dies_costs_its_cell_only(times: int, tmp_path: Path) -> None:
    """Killed once, the cell is tried again and has a result; killed each time, it is on record as
    failed.
    """
    deadly = bench_plans.Deadly(count=str(tmp_path / "count"), times=times)
    plan = bench_plans.plan("finetune(epochs=1)", deadly, "head_mask()", "identity()")
    made = bench(tmp_path / "store", plan, "processes", 2)
    counts = made.run(made.outline())
    assert counts == ({"ok": 4} if times == 1 else {"ok": 3, "failed": 1})
    assert len((tmp_path / "count").read_text(encoding="utf-8")) == 2
    found = {cell.name: made.store.result(cell) for cell in made.cells()}
    deadly_record = found.pop("deadly")
    assert all(item is not None and item.outcome.status == "ok" for item in found.values())
    assert deadly_record is not None
    if times > 1:
        assert (
            deadly_record.outcome.status == "failed"
            and "its worker died" in deadly_record.outcome.reason
        )
    assert made.outline().cells == () and not list((tmp_path / "store").glob("running/*/*"))


def test_killed_at_random_moments_a_bench_ends_with_the_same_results(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    _, expected = uninterrupted
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "eigenforget.cli",
        "bench",
        "plan.toml",
        "--store",
        "store",
        "--out",
        "out",
        "--device",
        "cpu",
    ]
    moments, kills = random.Random(7), 0
    for _ in range(3):
        process = subprocess.Popen(
            [*words, "--workers", "2"],
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
    assert kills >= 2
    last = command(tmp_path, "--workers", "2")
    assert last.returncode == 0, last.stderr
    assert timeless(tmp_path / "out") == expected
    cells = list((tmp_path / "store" / "cells").glob("*.json"))
    assert len(cells) == 12 and all(record.read(path).outcome.status == "ok" for path in cells)


def test_two_benches_share_a_store(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    _, expected = uninterrupted
    (tmp_path / "plan.toml").write_text(bench_plans.TEXT, encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "eigenforget.cli",
        "bench",
        "plan.toml",
        "--store",
        "store",
        "--device",
        "cpu",
        "--workers",
        "2",
    ]
    both = [
        subprocess.Popen([*words, "--out", name], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    texts = [process.communicate(timeout=180)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
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
    full = command(tmp_path, "--workers", "2", preexec_fn=_small_files)
    assert (
        full.returncode == 2 and full.stderr.count("\n") == 1 and "cannot be written" in full.stderr
    ), full.stderr
    assert not list((tmp_path / "store").rglob("*.tmp"))
    for path in (tmp_path / "store" / "cells").glob("*.json"):
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
    for cell in (tmp_path / "store" / "cells").glob("*.json"):
        if record.read(cell).name == "head_mask":
            cell.unlink()
    kept = sorted((tmp_path / "store" / "cells").glob("*.json"))[0]
    kept.write_text(
        kept.read_text(encoding="utf-8").replace('"value":', '"value": ', 1), encoding="utf-8"
    )
    work._last.clear()
    words = [
        "bench",
        str(tmp_path / "plan.toml"),
        "--store",
        str(tmp_path / "store"),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    for status in (1, 0):
        with pytest.raises(SystemExit) as caught:
            main([*words, "--backend", "sequential"])
        assert caught.value.code == status
        text = capsys.readouterr().out
        if status == 1:
            assert (
                model.name in text
                and "is damaged and is trained anew" in text
                and kept.name in text
                and "a result is damaged" in text
            )
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


def test_a_second_try_takes_the_place_of_the_first(tmp_path: Path) -> None:
    cell = bench_plans.plan("head_mask()").cells[0]
    experiment, store = experiment_of(cell.setting, "cpu"), Store(tmp_path)
    bad = work.failed_record(cell, experiment, work.failed("it broke"))
    store.keep(cell, bad)
    assert store.statuses() == {cell.digest: "failed"}
    store.keep(cell, replace(bad, outcome=replace(bad.outcome, status="ok", reason="")))
    assert (
        store.statuses() == {cell.digest: "ok"}
        and len(list((tmp_path / "cells").glob("*.json"))) == 1
    )
    assert store.keep(cell, bad).outcome.status == "ok" and store.statuses() == {
        cell.digest: "ok"
    }, "a result stays"


def test_a_task_that_another_bench_works_on_is_left_for_later(tmp_path: Path) -> None:
    cell = bench_plans.plan("head_mask()").cells[0]
    store = Store(tmp_path)
    with store.locked(f"cell-{cell.digest[7:]}", wait=True):
        assert do(Task("cell", cell.setting, cell=cell), Home(Store(tmp_path))).status == "busy"
    with store.locked(f"anchors-{cell.setting.digest[7:]}", wait=True):
        assert do(Task("anchors", cell.setting), Home(Store(tmp_path))).status == "busy"
    assert not list(tmp_path.glob("running/*/*"))


def test_anchors_are_there_only_when_all_of_them_are(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    """A damaged one is named, and all are measured anew although every cell is finished."""
    shutil.copytree(uninterrupted[0] / "store", tmp_path / "store")
    told: list[str] = []
    plan = read_plan(uninterrupted[0] / "plan.toml")
    made = Bench(plan, store_of(tmp_path / "store", told.append), pool_of("sequential", threads=1))
    setting = made.cells()[0].setting
    found = made.store.anchors(setting)
    assert found is not None and [r.role for r in found.records] == ["original", "oracle", "oracle"]
    assert found.values == [{s.name: s.value for s in item.scores} for item in found.records[1:]]
    folder = tmp_path / "store" / "anchors" / setting.digest[7:]
    (folder / "01-oracle-1.json").write_text(
        (folder / "01-oracle-1.json").read_text(encoding="utf-8")[:-20], encoding="utf-8"
    )
    outline = made.outline()
    assert (
        [task.setting for task in outline.settings] == [setting]
        and outline.cells == ()
        and outline.models == ()
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
    # A record of another setting under this name is none of it.
    other = next(path for path in (tmp_path / "store" / "anchors").iterdir() if path != folder)
    shutil.copy(other / "02-oracle-2.json", folder / "02-oracle-2.json")
    assert made.store.anchors(setting) is None and "is the result of another setting" in told[-1]


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
        experiment_of(bench_plans.plan("identity()", **own).cells[0].setting, "cpu"), "original", 0
    )
    before = [
        bench_plans.plan("identity()", **changes).cells[0].digest for changes in (by_ids, own)
    ]
    assert before == [
        bench_plans.plan("identity()", **changes).cells[0].digest for changes in (by_ids, own)
    ]
    ids.write_text("digit9", encoding="utf-8")
    code.write_text(code.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    after = [bench_plans.plan("identity()", **changes).cells[0].digest for changes in (by_ids, own)]
    assert all(a != b for a, b in zip(before, after, strict=True))
    again = identity_of(
        experiment_of(bench_plans.plan("identity()", **own).cells[0].setting, "cpu"), "original", 0
    )
    assert weights != again, "weights of other code are other weights"
    assert (
        named_files(own["model"]) == {str(code) + ":make": record.file_digest(code)}
        and named_files("no such file") == {}
    )


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
def test_whatever_a_method_raises_costs_its_cell(what: str, reason: str, tmp_path: Path) -> None:
    made = bench(
        tmp_path / "store", bench_plans.plan(bench_plans.Raising(what=what), "head_mask()")
    )
    assert made.run(made.outline()) == {"failed": 1, "ok": 1}
    found = made.store.result(made.cells()[0])
    assert found is not None and reason in found.outcome.reason and len(found.outcome.reason) < 600
    assert not list((tmp_path / "store").glob("running/*"))


def test_a_failed_model_does_not_take_the_results_of_another_bench(tmp_path: Path) -> None:
    """Bench A looks, B does everything, then A's model fails: B's results stay."""
    plan = bench_plans.plan("head_mask()", "identity()")
    a, b = bench(tmp_path / "store", plan), bench(tmp_path / "store", plan)
    outline = a.outline()
    assert b.run(b.outline()) == {"ok": 2}
    for path in (tmp_path / "store" / "models").glob("*.safetensors"):
        path.unlink()
    a._fail(outline.cells, {task.setting: "out of memory" for task in outline.cells})
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


def test_one_setting_of_a_method_has_one_name_throughout_a_plan(tmp_path: Path) -> None:
    first = bench_plans.plan("finetune(epochs=2)", seed=1)
    both = (
        bench_plans.plan("finetune(epochs=1)", seed=0),
        bench_plans.plan("finetune(epochs=1)", "finetune(epochs=2)", seed=1),
    )
    cells = (*first.cells, *both[0].cells, *both[1].cells)
    names = names_of(cells)
    by_spec = {(spell(c.method), names[c.digest]) for c in cells}
    assert by_spec == {("finetune()", "finetune"), ("finetune(epochs=1)", "finetune 2")}


def test_a_failed_setting_stands_in_the_table(tmp_path: Path) -> None:
    bad = bench_plans.plan("head_mask()", recipe=replace(bench_plans.setting().recipe, lr=1e30))
    made = bench(tmp_path / "store", bad)
    made.run(made.outline())
    (place,) = write_out(made, tmp_path / "out")
    assert [r.outcome.status for r in place.records] == ["failed"]
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
        cells=tuple(c for c in made.plan.cells if "label=3" in spell(c.setting.request))
    )
    write_out(bench(tmp_path / "store", fewer), tmp_path / "out")
    assert [p.name for p in sorted((tmp_path / "out").iterdir()) if p.is_dir()] == [
        "digits-mlp-by_class-label-3",
        "mine",
    ]


def test_workers_end_with_their_bench(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        bench_plans.TEXT.replace("epochs=1", "epochs=400"), encoding="utf-8"
    )
    words = [
        sys.executable,
        "-m",
        "eigenforget.cli",
        "bench",
        "plan.toml",
        "--store",
        "store",
        "--device",
        "cpu",
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    group = os.getpgid(process.pid)
    process.kill()
    process.wait()
    for _ in range(100):
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
