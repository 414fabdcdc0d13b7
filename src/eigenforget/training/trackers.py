"""Trackers: the numbers of a run for TensorBoard, MLflow or Trackio, each an optional library."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.text import first_line
from eigenforget.training.log import LogRow

_EXPERIMENT = "eigenforget"
"""Name of the MLflow experiment that runs belong to."""

_NO_NUMBERS = ("phase", "epoch")
_LONGEST_KEY = 250


class Logger(Protocol):
    """A logger of Lightning Fabric, as far as it is used here."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the numbers of one step."""

    def finalize(self, status: str, /) -> None:
        """End the run with status "success" or "failed"."""


class TrackedRun(NamedTuple):
    """One open run of a tracking library.

    Attributes:
        spec: What the user asked for, such as "mlflow:URI".
        logger: Where the numbers go.
        failures: What the logger raises where the library cannot be reached or written to.
    """

    spec: str
    logger: Logger
    failures: tuple[type[Exception], ...]


class Tracker:
    """Hands the rows of a training log, and scores of models, to tracking libraries.

    Its method `row` is a log: `unlearn(…, log=tracker("trackio:mine").row)`. If a run fails, it is
    named once on standard error and receives nothing more, but the work goes on.
    """

    def __init__(self, runs: Sequence[TrackedRun]) -> None:
        self._runs = list(runs)
        self._steps: Counter[str] = Counter()

    def row(self, row: LogRow) -> None:
        """Track the numbers of a log row as PHASE/NAME.

        The step counts the rows of that phase from 0.
        """
        phase = str(row.get("phase", "train"))
        numbers = {f"{phase}/{name}": v for name, v in row.items() if name not in _NO_NUMBERS}
        self._log(numbers, self._steps[phase])
        self._steps[phase] += 1

    def scores(self, name: str, scores: Mapping[str, float | None]) -> None:
        """Track the scores of the model `name` as NAME/SCORE at step 0; None is left out."""
        self._log({f"{name}/{score}": value for score, value in scores.items()}, 0)

    def close(self, ok: bool = True) -> None:
        """End the runs; `ok` says whether the work came to its end."""
        for run in list(self._runs):
            self._tell(run, lambda logger: logger.finalize("success" if ok else "failed"))
        self._runs.clear()

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        numbers = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
        }
        for run in list(self._runs) if numbers else ():
            self._tell(run, lambda logger: logger.log_metrics(numbers, step))

    def _tell(self, run: TrackedRun, call: Callable[[Logger], None]) -> None:
        try:
            call(run.logger)
        except run.failures as error:
            self._runs.remove(run)
            # Fabric's logger raises a ValueError of its own from what TensorBoard raised.
            line = first_line(error.__cause__ or error)
            print(f"warning: {run.spec} gets no further numbers: {line}", file=sys.stderr)


def tracker(*specs: str, name: str = "") -> Tracker:
    """A tracker for one or several libraries.

    Args:
        *specs: "tensorboard:FOLDER", "mlflow:URI" or "trackio:PROJECT".
        name: Name of the run. TensorBoard's files go into FOLDER/NAME.

    Raises:
        EigenforgetError: An unknown spec, a missing library (the message names the extra to
            install), or a place that cannot be reached or written to.
    """
    check_trackers(specs)
    opened: list[TrackedRun] = []
    try:
        for spec in specs:
            kind, place = _parsed(spec)
            opened.append(kind.open(spec, place, name))
    except EigenforgetError:
        Tracker(opened).close(False)
        raise
    return Tracker(opened)


def check_trackers(specs: Sequence[str]) -> None:
    """Check specs of trackers before any work.

    Raises:
        EigenforgetError: One of the specs is wrong, or its library is missing.
    """
    for spec, (kind, _) in [(spec, _parsed(spec)) for spec in specs]:
        needed(kind.module, extra=spec.partition(":")[0], what=f"--track {spec}")


@contextmanager
def tracking(specs: Sequence[str], *, name: str, leads: bool = True) -> Iterator[Tracker]:
    """A tracker whose runs end with the context; only the process that leads tracks anything."""
    found = tracker(*(specs if leads else ()), name=name)
    ok = False
    try:
        yield found
        ok = True
    finally:
        found.close(ok)


@contextmanager
def _opening(spec: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except failures as error:
        raise EigenforgetError(f"{spec}: cannot be opened: {first_line(error)}") from None


def _tensorboard(spec: str, place: str, name: str) -> TrackedRun:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    with _opening(spec, (OSError,)):
        logger = TensorBoardLogger(place, name=name, version="")
        _ = logger.experiment  # opens the file
    return TrackedRun(spec, logger, (OSError, ValueError))


class _MlflowLogger:
    def __init__(self, library: Any, place: str, name: str) -> None:
        self._metric = library.entities.Metric
        self._client = library.MlflowClient(tracking_uri=place)
        known = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(_EXPERIMENT)
        self._run = self._client.create_run(experiment, run_name=name or None).info.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        rows = [self._metric(_mlflow_key(key), value, now, step) for key, value in metrics.items()]
        self._client.log_batch(self._run, metrics=rows)

    def finalize(self, status: str) -> None:
        ended = "FINISHED" if status == "success" else "FAILED"
        self._client.set_terminated(self._run, status=ended)


def _mlflow(spec: str, place: str, name: str) -> TrackedRun:
    mlflow = needed("mlflow", extra="mlflow", what=spec)
    failures = (mlflow.MlflowException, OSError)
    with _opening(spec, (*failures, ImportError)):  # a database needs a package of its own
        return TrackedRun(spec, _MlflowLogger(mlflow, place, name), failures)


class _TrackioLogger:
    def __init__(self, library: Any, place: str, name: str) -> None:
        self._library = library
        library.init(project=place, name=name or None)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._library.log(dict(metrics), step=step)

    def finalize(self, _: str, /) -> None:
        self._library.finish()


def _trackio(spec: str, place: str, name: str) -> TrackedRun:
    trackio = needed("trackio", extra="trackio", what=spec)
    failures = (OSError, ValueError, RuntimeError)
    with _opening(spec, failures):
        return TrackedRun(spec, _TrackioLogger(trackio, place, name), failures)


class _Kind(NamedTuple):
    module: str
    open: Callable[[str, str, str], TrackedRun]


_KINDS = {
    "tensorboard": _Kind("torch.utils.tensorboard", _tensorboard),
    "mlflow": _Kind("mlflow", _mlflow),
    "trackio": _Kind("trackio", _trackio),
}


def _parsed(spec: str) -> tuple[_Kind, str]:
    kind, _, place = spec.partition(":")
    if kind not in _KINDS or not place.strip():
        raise EigenforgetError(
            f"tracker {spec!r} is not tensorboard:FOLDER, mlflow:URI or trackio:PROJECT"
        )
    return _KINDS[kind], place.strip()


def _mlflow_key(key: str) -> str:
    """The key with only the characters that MLflow takes, at most 250.

    The key may become the name of a file, so no part of it reads as a folder in a path.
    """
    parts = [re.sub(r"[^\w\-. :]", "_", part).strip() for part in key.split("/")]
    return "/".join("_" if part.strip(".") == "" else part for part in parts)[:_LONGEST_KEY]
