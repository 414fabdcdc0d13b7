"""Trackers: which numbers arrive, at which step, under which name; what is missing or fails; and
--track on the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from eigenforget.cli import main
from eigenforget.core.errors import EigenforgetError
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.unlearn import unlearn
from eigenforget.record import read, read_folder
from eigenforget.training.engine import Engine
from eigenforget.training.trackers import TrackedRun, Tracker, check_trackers, tracker, tracking

ROWS = [
    {
        "epoch": 0,
        "phase": "forget",
        "loss": 2.0,
        "seconds": 0.5,
        "da": None,
        "note": "text",
        "done": True,
        "bad": float("nan"),
    },
    {"epoch": 0, "phase": "retain", "loss": 1.0},
    {"epoch": 1, "phase": "forget", "loss": 0.5, "da": 0.25},
    {"epoch": 0, "phase": "forget", "loss": 0.125},
]
LOGGED = [
    ({"forget/loss": 2.0, "forget/seconds": 0.5}, 0),
    ({"retain/loss": 1.0}, 0),
    ({"forget/loss": 0.5, "forget/da": 0.25}, 1),
    ({"forget/loss": 0.125}, 2),
]
SCORES = {"da": 0.5, "da@block.1": -1.25, "lp_forget": None}


class Kept:
    """A logger that remembers, and fails from its `after`-th call on."""

    def __init__(self, after: int = 1000, error: Exception | None = None) -> None:
        self.calls: list[tuple[dict[str, float], int]] = []
        self.closed: list[bool] = []
        self.after, self.error = after, error or OSError("disk full\nand more")

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if len(self.calls) >= self.after:
            raise self.error
        self.calls.append((dict(metrics), step))

    def finalize(self, status: str) -> None:
        self.closed.append(status == "success")
        if len(self.calls) >= self.after:
            raise self.error


def over(*loggers: Kept) -> Tracker:
    return Tracker([TrackedRun("kept:here", logger, (OSError,)) for logger in loggers])


class FakeTrackio(ModuleType):
    """The three functions of trackio that are used, with the parameters that they have there."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("trackio")
        self.calls: list[tuple[Any, ...]] = []
        self.error = error

    def init(self, project: str, name: str | None = None) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(("init", project, name))

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.calls.append(("log", metrics, step))

    def finish(self) -> None:
        self.calls.append(("finish",))

    def logged(self) -> list[tuple[dict[str, Any], int]]:
        return [(call[1], call[2]) for call in self.calls if call[0] == "log"]


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> FakeTrackio:
    fake = FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    return fake


def feed(found: Tracker) -> None:
    for row in ROWS:
        found.row(row)
    found.scores("one", SCORES)
    found.close()


def test_numbers_go_to_every_run_with_steps_of_their_phase() -> None:
    first, second = Kept(), Kept()
    feed(over(first, second))
    assert first.calls == second.calls == [
        *LOGGED,
        ({"one/da": 0.5, "one/da@block.1": -1.25}, 0),
    ] and first.closed == [True]


def test_a_row_without_numbers_is_no_call() -> None:
    sink = Kept()
    found = over(sink)
    found.row({"epoch": 0, "phase": "a"})
    found.row({"epoch": 1, "phase": "a", "loss": 1})
    found.scores("m", {"da": None})
    assert sink.calls == [({"a/loss": 1.0}, 1)]


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing, good = Kept(after=1), Kept()
    feed(over(failing, good))
    assert (
        len(failing.calls) == 1
        and not failing.closed
        and len(good.calls) == 5
        and good.closed == [True]
    )
    assert capsys.readouterr().err == "warning: kept:here gets no further numbers: disk full\n"
    last = Kept(after=0)
    over(last, good).close()
    assert (
        last.closed == [True]
        and good.closed == [True, True]
        and "disk full" in capsys.readouterr().err
    )


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        over(Kept(after=0, error=ZeroDivisionError())).row({"phase": "a", "loss": 1.0})


def test_trackio_is_called_as_it_wants(trackio: FakeTrackio) -> None:
    feed(tracker("trackio:my project", name="run"))
    assert trackio.calls[0] == ("init", "my project", "run") and trackio.calls[-1] == ("finish",)
    assert trackio.logged() == [*LOGGED, ({"one/da": 0.5, "one/da@block.1": -1.25}, 0)]
    tracker("trackio:p").close()
    assert trackio.calls[-2:] == [("init", "p", None), ("finish",)]


def test_tracking_ends_the_run_in_any_case(trackio: FakeTrackio) -> None:
    with pytest.raises(ZeroDivisionError), tracking(["trackio:p"], name="n"):
        raise ZeroDivisionError
    assert trackio.calls == [("init", "p", "n"), ("finish",)]
    with tracking(["trackio:p"], name="n", leads=False) as found:
        found.row({"phase": "a", "loss": 1.0})
    assert len(trackio.calls) == 2


def test_a_second_tracker_that_cannot_be_opened_ends_the_first(
    trackio: FakeTrackio, tmp_path: Path
) -> None:
    with pytest.raises(EigenforgetError, match="is not tensorboard:FOLDER"):
        tracker("trackio:p", "nothing:p")
    assert trackio.calls == []
    trackio.error = ValueError("no such project\nat all")
    with pytest.raises(EigenforgetError, match=r"^trackio:p: cannot be opened: no such project$"):
        tracker("trackio:p")


@pytest.mark.parametrize(
    "spec", ["", "trackio", "trackio:", "mlflow: ", "wandb:x", "tensorboard", ":x", "Tensorboard:x"]
)
def test_what_is_no_tracker(spec: str) -> None:
    for call in (tracker, lambda s: check_trackers([s])):
        with pytest.raises(
            EigenforgetError, match="is not tensorboard:FOLDER, mlflow:URI or trackio:PROJECT"
        ):
            call(spec)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("trackio", "trackio")],
)
def test_a_missing_library_is_one_line(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    for call in (tracker, lambda s: check_trackers([s])):
        with pytest.raises(
            EigenforgetError,
            match=rf"needs {module}, which is not installed: pip install 'eigenforget\[{extra}\]'$",
        ):
            call(f"{extra}:{tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_tensorboard_files_are_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    feed(tracker(f"tensorboard:{tmp_path}", name="run"))
    found = EventAccumulator(str(tmp_path / "run"))
    found.Reload()
    read_back = {
        tag.replace("@", "_"): [(e.step, e.value) for e in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }
    assert read_back == {
        "forget/loss": [(0, 2.0), (1, 0.5), (2, 0.125)],
        "forget/seconds": [(0, 0.5)],
        "retain/loss": [(0, 1.0)],
        "forget/da": [(1, 0.25)],
        "one/da": [(0, 0.5)],
        "one/da_block.1": [(0, -1.25)],
    }
    feed(tracker(f"tensorboard:{tmp_path / 'plain'}"))
    assert len(list((tmp_path / "plain").glob("events.*"))) == 1
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(EigenforgetError, match="cannot be opened"):
        tracker(f"tensorboard:{tmp_path / 'file'}", name="run")


def test_mlflow_files_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    feed(tracker(f"mlflow:{uri}", name="run"))
    with pytest.raises(ZeroDivisionError), tracking([f"mlflow:{uri}"], name="two") as found:
        found.scores("../x@y", {"..": 1.0})
        raise ZeroDivisionError
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("eigenforget").experiment_id])
    }
    assert {name: run.info.status for name, run in runs.items()} == {
        "run": "FINISHED",
        "two": "FAILED",
    }
    history = {
        key: [(m.step, m.value) for m in client.get_metric_history(runs["run"].info.run_id, key)]
        for key in runs["run"].data.metrics
    }
    assert history == {
        "forget/loss": [(0, 2.0), (1, 0.5), (2, 0.125)],
        "forget/seconds": [(0, 0.5)],
        "retain/loss": [(0, 1.0)],
        "forget/da": [(1, 0.25)],
        "one/da": [(0, 0.5)],
        "one/da_block.1": [(0, -1.25)],
    }
    assert runs["two"].data.metrics == {"_/x_y/_": 1.0}
    with pytest.raises(EigenforgetError, match="cannot be opened"):
        tracker("mlflow:nothing://x")


def test_from_python(trackio: FakeTrackio) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    found = tracker("trackio:p")
    unlearn(
        model,
        forget=(x[:9], y[:9]),
        retain=(x[9:], y[9:]),
        method=Finetune(epochs=3),
        engine=Engine(device="cpu"),
        log=found.row,
    )
    found.close()
    assert [step for _, step in trackio.logged()] == [0, 1, 2] and all(
        any(k.endswith("/loss") for k in v) for v, _ in trackio.logged()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("tracked")
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    np.savez_compressed(
        place / "points.npz",
        x=(rng.normal(size=(120, 6)) + 3 * np.eye(6)[y]).astype(np.float32),
        y=y,
    )
    yield place


def train(folder: Path, *more: str) -> list[str]:
    return [
        "train",
        "--data",
        f'npz(path="{folder / "points.npz"}")',
        "--model",
        "mlp(hidden=(8,))",
        "--recipe",
        "recipe(epochs=2, batch_size=8)",
        "--out",
        str(folder / "original.safetensors"),
        "--overwrite",
        *more,
    ]


def test_the_commands_track_what_their_records_hold(folder: Path, trackio: FakeTrackio) -> None:
    original, gone = str(folder / "original.safetensors"), str(folder / "gone.safetensors")
    main(train(folder, "--track", "trackio:p"))
    assert trackio.calls[0] == ("init", "p", "original") and trackio.calls[-1] == ("finish",)
    assert [
        (set(values) >= {"train/loss", "train/seconds"}, step) for values, step in trackio.logged()
    ] == [(True, 0), (True, 1)]
    trackio.calls.clear()
    main(
        [
            "unlearn",
            original,
            "--forget",
            "by_class(label=1)",
            "--method",
            "finetune(epochs=2)",
            "--out",
            gone,
            "--track",
            "trackio:p",
        ]
    )
    trace = read(folder / "gone.json").series["trace"]
    assert trackio.calls[0] == ("init", "p", "gone") and len(trace) == len(trackio.logged()) == 2
    for row, (values, step) in zip(trace, trackio.logged(), strict=True):
        numbers = {
            f"{row['phase']}/{k}": v
            for k, v in row.items()
            if k not in ("epoch", "phase") and v is not None
        }
        assert (
            step == row["epoch"] and values == pytest.approx(numbers, rel=1e-5) and len(values) > 2
        )
    trackio.calls.clear()
    main(
        [
            "evaluate",
            gone,
            "--original",
            original,
            "--forget",
            "by_class(label=1)",
            "--skip",
            "relearning",
            "--out",
            str(folder / "results"),
            "--track",
            "trackio:p",
        ]
    )
    wanted = [
        ({f"{r.name}/{s.name}": s.value for s in r.scores if s.value is not None}, 0)
        for r in read_folder(folder / "results" / "records")
    ]
    assert (
        trackio.calls[0] == ("init", "p", "results")
        and trackio.calls[-1] == ("finish",)
        and len(wanted) == 2
    )
    assert trackio.logged() == [(pytest.approx(values, rel=1e-5), step) for values, step in wanted]


def test_a_run_that_fails_ends_its_tracking(folder: Path, trackio: FakeTrackio) -> None:
    main(train(folder))
    with pytest.raises(SystemExit, match="2"):
        main(
            [
                "unlearn",
                str(folder / "original.safetensors"),
                "--forget",
                "by_class(label=1)",
                "--method",
                "finetune()",
                "--retain-fraction",
                "0",
                "--out",
                str(folder / "refused.safetensors"),
                "--track",
                "trackio:p",
            ]
        )
    assert [call[0] for call in trackio.calls] == ["init", "finish"] and (
        folder / "refused.json"
    ).exists()


def test_a_missing_library_stops_the_commands_before_they_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(train(folder))
    monkeypatch.setitem(sys.modules, "trackio", None)
    before = sorted(folder.iterdir())
    original, out = str(folder / "original.safetensors"), str(folder / "new.safetensors")
    for given in (
        train(folder, "--out", out),
        ["unlearn", original, "--forget", "by_class(label=1)", "--out", out],
        [
            "evaluate",
            "--original",
            original,
            "--forget",
            "by_class(label=1)",
            "--out",
            str(folder / "new"),
        ],
    ):
        given = [g for i, g in enumerate(given) if g != "--overwrite"]
        if given[0] == "train":
            del given[given.index("--out") : given.index("--out") + 2]
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main([*given, "--track", "trackio:p"])
        said = capsys.readouterr().err
        assert "pip install 'eigenforget[trackio]'" in said and said.count("\n") == 1
    assert sorted(folder.iterdir()) == before
