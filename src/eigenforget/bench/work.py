"""What a worker process of a bench does: train a model, measure a setting's anchors, run a cell."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from eigenforget.bench.cells import Cell, Setting
from eigenforget.bench.store import Anchors, Status, Store
from eigenforget.clock import Made
from eigenforget.data import Data
from eigenforget.engine import Engine
from eigenforget.errors import NotWritten
from eigenforget.evaluation import Board, Measured
from eigenforget.jobs import Experiment, described, problem
from eigenforget.model_cache import Kind
from eigenforget.record import Outcome, RunRecord
from eigenforget.types import Diverged, EigenforgetError, Refused
from eigenforget.unlearning import unchanged_weights

_BUGS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What costs one cell. An OSError (a full disk, a folder that is gone) is not among them: it would cost every cell."""


class Home(NamedTuple):
    """Where the work is done: the store, the device, and the processor threads of a worker."""

    store: Store
    device: str = "cpu"
    threads: int = 1


class Task(NamedTuple):
    """A piece of work. seed: of the model that is trained. wait: for a lock that another holds, instead of coming back to it later."""

    kind: Literal["original", "oracle", "anchors", "cell"]
    setting: Setting
    seed: int = 0
    cell: Cell | None = None
    wait: bool = False

    @property
    def id(self) -> str:
        """A name for files, the same for the same work."""
        digest = self.cell.digest if self.cell else self.setting.digest
        return f"{self.kind}-{digest[7:]}-{self.seed}"

    @property
    def title(self) -> str:
        if self.cell:
            return f"{self.cell.name}, seed {self.setting.seed}"
        return f"original and retrained models of seed {self.setting.seed}" if self.kind == "anchors" else f"{self.kind}, seed {self.seed}"


class Answer(NamedTuple):
    """reason: why it has no result, and what was noticed. seconds: wall time of the task. own_seconds: of making and measuring a model."""

    status: Status | Literal["busy"]
    reason: str = ""
    seconds: float = 0.0
    own_seconds: float = 0.0


@dataclass
class _Loaded:
    """The setting that this process worked on last: consecutive cells share data, models and what was observed of them."""

    setting: Setting
    experiment: Experiment
    original: Made
    oracles: tuple[Made, ...]
    board: Board


_last: dict[Path, _Loaded] = {}
_notes: list[str] = []
_data: dict[tuple[Any, str], Data] = {}


def do(task: Task, home: Home) -> Answer:
    """Does the task and says how it went. Errors: NotWritten, RecordError where the store cannot be written: no other would fare better."""
    torch.set_num_threads(home.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    started = time.perf_counter()
    _notes.clear()
    home = home._replace(store=replace(home.store, warn=_notes.append))
    with home.store.running(task.id):
        if task.cell is not None:
            answer = _cell(task.cell, task.wait, home)
        elif task.kind == "anchors":
            answer = _anchors(task.setting, task.wait, home)
        else:
            answer = _model(task, home)
    reason = "; ".join([*([answer.reason] if answer.reason else []), *_notes])
    return answer._replace(seconds=time.perf_counter() - started, reason=reason)


def experiment_of(setting: Setting, device: str) -> Experiment:
    """The setting's experiment; data that the last one used is not loaded again."""
    engine = Engine(device=device, precision=setting.precision, channels_last=setting.channels_last)
    found = Experiment(setting.data, setting.model, setting.recipe, setting.request, engine, layer=setting.layer or None)
    key = setting.data, setting.recipe.augment
    if key not in _data:
        _data.clear()
        _data[key] = found.data
    vars(found)["data"] = _data[key]
    return found


def failed_record(cell: Cell, experiment: Experiment, reason: str) -> RunRecord:
    """The record of a cell that made no model."""
    return experiment.record("evaluate", cell.name, Outcome("failed", 0.0, reason), role=cell.method.role, job=_job(cell))


def _model(task: Task, home: Home) -> Answer:
    kind: Kind = "original" if task.kind == "original" else "oracle"
    try:
        made = home.store.cache().get(experiment_of(task.setting, home.device), kind, task.seed)
    except NotWritten:
        raise
    except _BUGS as error:
        return Answer("failed", f"{kind} of seed {task.seed}: {_reason(error)}")
    return Answer("ok", own_seconds=made.seconds)


def _anchors(setting: Setting, wait: bool, home: Home) -> Answer:
    with home.store.locked(f"anchors-{setting.digest[7:]}", wait=wait) as mine:
        if not mine:
            return Answer("busy")
        return Answer("ok") if home.store.anchors(setting) is not None else _measured_anchors(setting, home)


def _measured_anchors(setting: Setting, home: Home) -> Answer:
    try:
        loaded = _load(setting, home, None)
        board, experiment = loaded.board, loaded.experiment
        measured = [board.measure_original(), *(board.measure_oracle(i) for i in range(len(setting.oracles)))]
    except NotWritten:
        raise
    except _BUGS as error:
        return Answer("failed", _reason(error))
    names = ["original", *(f"oracle {i}" for i in range(1, len(measured)))]
    made = (loaded.original, *loaded.oracles)
    records = [
        experiment.evaluation_record(name, m, found, job={"seed": seed, **_place(setting)})
        for name, m, found, seed in zip(names, made, measured, (setting.seed, *setting.oracles), strict=True)
    ]
    home.store.keep_anchors(setting, experiment.data.digest, [_known(v) for v in board.oracle_values], records)
    _last[home.store.folder] = loaded
    return Answer("ok", own_seconds=sum(found.seconds for found in measured))


def _cell(cell: Cell, wait: bool, home: Home) -> Answer:
    with home.store.locked(f"cell-{cell.digest[7:]}", wait=wait) as mine:
        if not mine:
            return Answer("busy")
        kept = home.store.result(cell)
        if kept is not None:
            return Answer(kept.outcome.status, kept.outcome.reason)
        experiment = experiment_of(cell.setting, home.device)
        try:
            found = _run(cell, home)
        except NotWritten:
            raise
        except (Refused, Diverged) as error:
            found = experiment.record("evaluate", cell.name, problem(error), role=cell.method.role, job=_job(cell))
        except _BUGS as error:
            found = failed_record(cell, experiment, _reason(error))
        home.store.keep(cell, found)
        own = found.outcome.seconds + float(found.outcome.cost.get("measure_seconds", 0.0))
        return Answer(found.outcome.status, found.outcome.reason, own_seconds=own)


def _run(cell: Cell, home: Home) -> RunRecord:
    loaded = _last.get(home.store.folder)
    if loaded is None or loaded.setting != cell.setting:
        anchors = home.store.anchors(cell.setting)
        if anchors is None:
            raise EigenforgetError("the original and the retrained models of this setting are not measured")
        loaded = _last[home.store.folder] = _load(cell.setting, home, anchors)
    experiment = replace(loaded.experiment, retain_fraction=cell.retain_fraction)
    vars(experiment).update(data=loaded.experiment.data, split=loaded.experiment.split)
    trace: list[Mapping[str, Any]] = []
    made = experiment.unlearn(loaded.original.model, cell.method, seed=cell.setting.seed, log=trace.append)
    measured: Measured = loaded.board.measure(made.model, cell.method.role)
    job = _job(cell) | unchanged_weights(loaded.original.model, made.model)
    return experiment.evaluation_record(cell.name, made, measured, job=job, trace=trace)


def _load(setting: Setting, home: Home, anchors: Anchors | None) -> _Loaded:
    """Models from the cache, trained where they are missing, on a board."""
    experiment, cache = experiment_of(setting, home.device), home.store.cache()
    if anchors is not None and anchors.data != experiment.data.digest:
        raise EigenforgetError("the data is not what it was when the retrained models were measured")
    original = cache.get(experiment, "original", setting.seed)
    oracles = tuple(cache.get(experiment, "oracle", seed) for seed in setting.oracles)
    panel = experiment.panel(
        seed=setting.seed, layer=setting.layer or None, layers=setting.layers, skip=setting.skip, map_points=setting.map_points
    )
    known = None if anchors is None else anchors.values
    board = Board(panel, [original.model], [o.model for o in oracles], known=known)
    return _Loaded(setting, experiment, original, oracles, board)


def _job(cell: Cell) -> dict[str, Any]:
    own = {"seed": cell.setting.seed, "method": described(cell.method), "retain_fraction": cell.retain_fraction, "cell": cell.digest}
    return own | _place(cell.setting)


def _place(setting: Setting) -> dict[str, Any]:
    return {"setting": setting.digest} | ({"layer": setting.layer} if setting.layer else {})


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _reason(error: BaseException) -> str:
    """One line; for what is no error of this package also where it happened."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, EigenforgetError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"
