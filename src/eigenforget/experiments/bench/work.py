"""What a worker process of a bench does: train a model, measure a setting's anchors, run a cell."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch

from eigenforget.core.errors import EigenforgetError, NotWritten, Refused
from eigenforget.data import Data
from eigenforget.evaluation.board import Board, Measurement
from eigenforget.experiments.bench.cells import Cell, Setting
from eigenforget.experiments.bench.store import Anchors, Status, Store
from eigenforget.experiments.experiment import Experiment, described
from eigenforget.experiments.model_cache import ModelKind
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import Outcome, RunRecord, canonical, to_json
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine

_MOST_REASON = 500

T = TypeVar("T")


class Home(NamedTuple):
    """Where the work is done: the store, the device, and the processor threads of a worker."""

    store: Store
    device: str = "cpu"
    threads: int = 1


class Task(NamedTuple):
    """A piece of work. seed: of the model that is trained. wait: for a lock that another holds,
    instead of coming back to it later.

    again: a cell that was refused or failed is tried once more.
    """

    kind: Literal["original", "oracle", "anchors", "cell"]
    setting: Setting
    seed: int = 0
    cell: Cell | None = None
    wait: bool = False
    again: bool = False

    @property
    def id(self) -> str:
        """A name for files, the same for the same work."""
        digest = self.cell.digest if self.cell else self.setting.digest
        return f"{self.kind}-{digest[7:]}-{self.seed}"

    @property
    def title(self) -> str:
        if self.cell:
            return f"{self.cell.name}, seed {self.setting.seed}"
        return (
            f"original and retrained models of seed {self.setting.seed}"
            if self.kind == "anchors"
            else f"{self.kind}, seed {self.seed}"
        )


class Answer(NamedTuple):
    """reason: why it has no result, and what was noticed. seconds: wall time of the task.
    own_seconds: of making and measuring a model.
    """

    status: Status | Literal["busy"]
    reason: str = ""
    seconds: float = 0.0
    own_seconds: float = 0.0


@dataclass
class _Loaded:
    """The setting that this process worked on last: consecutive cells share data, models and what
    was observed of them.
    """

    setting: Setting
    experiment: Experiment
    original: ModelAndCost
    oracles: tuple[ModelAndCost, ...]
    board: Board


_last: dict[Path, _Loaded] = {}
_notes: list[str] = []
_data: dict[tuple[Any, str], Data] = {}


def do(task: Task, home: Home) -> Answer:
    """Does the task and says how it went. Errors: NotWritten, RecordError where the store cannot be
    written: no other would fare better.
    """
    torch.set_num_threads(home.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    started = time.perf_counter()
    _notes.clear()
    home = home._replace(store=replace(home.store, warn=_notes.append))
    with home.store.running(task.id):
        if task.cell is not None:
            answer = _cell(task.cell, task, home)
        elif task.kind == "anchors":
            answer = _anchors(task.setting, task.wait, home)
        else:
            answer = _model(task, home)
    reason = "; ".join([*([answer.reason] if answer.reason else []), *_notes])
    return answer._replace(seconds=time.perf_counter() - started, reason=reason)


def experiment_of(setting: Setting, device: str) -> Experiment:
    """The setting's experiment; data that the last one used is not loaded again."""
    engine = Engine(device=device, precision=setting.precision, channels_last=setting.channels_last)
    found = Experiment(
        setting.data,
        setting.model,
        setting.recipe,
        setting.request,
        engine,
        layer=setting.layer or None,
    )
    key = setting.data, setting.recipe.augment
    if key not in _data:
        _data.clear()
        _data[key] = found.data
    vars(found)["data"] = _data[key]
    return found


class Failed(NamedTuple):
    """Why something has no result."""

    status: Literal["refused", "failed"]
    reason: str


def failed(reason: str) -> Failed:
    return Failed("failed", reason)


def failed_record(cell: Cell, experiment: Experiment, why: Failed) -> RunRecord:
    """The record of a cell that made no model."""
    return experiment.record(
        "evaluate",
        cell.name,
        Outcome(why.status, 0.0, why.reason),
        role=cell.method.role,
        job=_job(cell),
    )


def _tried(work: Callable[[], T]) -> T | Failed:
    """What the work gives, or why it gives nothing. Here a plan meets code that others wrote:
    whatever it raises costs one cell.

    Errors: NotWritten, since a full disk costs every cell.
    """
    try:
        return work()
    except NotWritten:
        raise
    except Refused as error:
        return Failed("refused", _reason(error))
    except (Exception, SystemExit) as error:  # see above; the only place that does
        return Failed("failed", _reason(error))


def _model(task: Task, home: Home) -> Answer:
    kind: ModelKind = "original" if task.kind == "original" else "oracle"
    found = _tried(
        lambda: home.store.cache().get(experiment_of(task.setting, home.device), kind, task.seed)
    )
    if isinstance(found, Failed):
        return Answer("failed", f"{kind} of seed {task.seed}: {found.reason}")
    return Answer("ok", own_seconds=found.seconds)


def _anchors(setting: Setting, wait: bool, home: Home) -> Answer:
    with home.store.locked(f"anchors-{setting.digest[7:]}", wait=wait) as mine:
        if not mine:
            return Answer("busy")
        return (
            Answer("ok")
            if home.store.anchors(setting) is not None
            else _measured_anchors(setting, home)
        )


def _measured_anchors(setting: Setting, home: Home) -> Answer:
    loaded = _tried(lambda: _load(setting, home, None))
    records = loaded if isinstance(loaded, Failed) else _tried(lambda: _anchor_records(loaded))
    if isinstance(records, Failed) or isinstance(loaded, Failed):
        return Answer("failed", records.reason)  # type: ignore[union-attr]
    home.store.keep_anchors(setting, records)
    _last[home.store.folder] = loaded
    return Answer("ok", own_seconds=sum(float(r.outcome.cost["measure_seconds"]) for r in records))


def _anchor_records(loaded: _Loaded) -> list[RunRecord]:
    board, setting = loaded.board, loaded.setting
    measured = [
        board.measure_original(),
        *(board.measure_oracle(i) for i in range(len(setting.oracles))),
    ]
    names = ["original", *(f"oracle {i}" for i in range(1, len(measured)))]
    made = (loaded.original, *loaded.oracles)
    return [
        loaded.experiment.evaluation_record(name, m, found, job={"seed": seed, **_place(setting)})
        for name, m, found, seed in zip(
            names, made, measured, (setting.seed, *setting.oracles), strict=True
        )
    ]


def _cell(cell: Cell, task: Task, home: Home) -> Answer:
    with home.store.locked(f"cell-{cell.digest[7:]}", wait=task.wait) as mine:
        if not mine:
            return Answer("busy")
        kept = home.store.result(cell)
        if kept is not None and (kept.outcome.status == "ok" or not task.again):
            return Answer(kept.outcome.status, kept.outcome.reason)
        found = _tried(lambda: _run(cell, home))
        if isinstance(found, Failed):
            found = failed_record(cell, experiment_of(cell.setting, home.device), found)
        home.store.keep(cell, found)
        own = found.outcome.seconds + float(found.outcome.cost.get("measure_seconds", 0.0))
        return Answer(found.outcome.status, found.outcome.reason, own_seconds=own)


def _run(cell: Cell, home: Home) -> RunRecord:
    loaded = _last.get(home.store.folder)
    if loaded is None or loaded.setting != cell.setting:
        anchors = home.store.anchors(cell.setting)
        if anchors is None:
            raise EigenforgetError(
                "the original and the retrained models of this setting are not measured"
            )
        loaded = _last[home.store.folder] = _load(cell.setting, home, anchors)
    experiment = replace(loaded.experiment, retain_fraction=cell.retain_fraction)
    vars(experiment).update(data=loaded.experiment.data, split=loaded.experiment.split)
    trace: list[Mapping[str, Any]] = []
    made = experiment.unlearn(
        loaded.original.model, cell.method, seed=cell.setting.seed, log=trace.append
    )
    measured: Measurement = loaded.board.measure(made.model, cell.method.role)
    job = _job(cell) | unchanged_weights(loaded.original.model, made.model)
    made_record = experiment.evaluation_record(cell.name, made, measured, job=job, trace=trace)
    canonical(to_json(made_record))  # a method may have logged what no record can hold
    return made_record


def _load(setting: Setting, home: Home, anchors: Anchors | None) -> _Loaded:
    """Models from the cache, trained where they are missing, on a board."""
    experiment, cache = experiment_of(setting, home.device), home.store.cache()
    if anchors is not None and anchors.inputs != (experiment.data.digest, experiment.split.digest):
        raise EigenforgetError(
            "data or split are not what they were when the retrained models were measured"
        )
    original = cache.get(experiment, "original", setting.seed)
    oracles = tuple(cache.get(experiment, "oracle", seed) for seed in setting.oracles)
    panel = experiment.panel(
        seed=setting.seed,
        layer=setting.layer or None,
        layers=setting.layers,
        skip=setting.skip,
        map_points=setting.map_points,
    )
    known = None if anchors is None else anchors.values
    board = Board(panel, [original.model], [o.model for o in oracles], known=known)
    return _Loaded(setting, experiment, original, oracles, board)


def _job(cell: Cell) -> dict[str, Any]:
    own = {
        "seed": cell.setting.seed,
        "method": described(cell.method),
        "retain_fraction": cell.retain_fraction,
        "cell": cell.digest,
    }
    return own | _place(cell.setting)


def _place(setting: Setting) -> dict[str, Any]:
    return {"setting": setting.digest} | ({"layer": setting.layer} if setting.layer else {})


def _reason(error: BaseException) -> str:
    """One line; for what is no error of this package also where it happened."""
    text = (
        " ".join(str(error).split())[:_MOST_REASON].encode("utf-8", "backslashreplace").decode()
        or type(error).__name__
    )
    if isinstance(error, EigenforgetError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"
