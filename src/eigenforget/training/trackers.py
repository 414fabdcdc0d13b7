"""Numbers of a run for a tracker: TensorBoard, MLflow or Trackio, each an optional library behind
one small class.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed

EXPERIMENT = "eigenforget"
"""Name of the MLflow experiment that runs belong to."""

_LEFT_OUT = ("phase", "epoch")
_LONGEST_KEY = 250


class Sink(Protocol):
    """One open run of a tracking library. failures: what its calls raise where the tracker cannot
    be reached or written.
    """

    spec: str
    failures: tuple[type[Exception], ...]

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self, ok: bool) -> None: ...


class Tracker:
    """Hands the rows of a training log, and the scores of models, to trackers. `row` is a log:
    unlearn(…, log=tracker(spec).row).

    A tracker that fails while the run goes on is named once on standard error and gets nothing
    further: the run is not lost with it.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._steps: Counter[str] = Counter()

    def row(self, row: Mapping[str, Any]) -> None:
        """The numbers of a log row as PHASE/NAME, at the step that counts the rows of that phase
        from 0.
        """
        phase = str(row.get("phase", "train"))
        self._log(
            {f"{phase}/{name}": value for name, value in row.items() if name not in _LEFT_OUT},
            self._steps[phase],
        )
        self._steps[phase] += 1

    def scores(self, name: str, scores: Mapping[str, float | None]) -> None:
        """The scores of the model `name` as NAME/SCORE, at step 0; None, a score that does not
        apply, is left out.
        """
        self._log({f"{name}/{score}": value for score, value in scores.items()}, 0)

    def close(self, ok: bool = True) -> None:
        """Ends the runs. ok: whether what was tracked came to its end."""
        for sink in list(self._sinks):
            try:
                sink.close(ok)
            except sink.failures as error:
                self._failed(sink, error)
        self._sinks.clear()

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        numbers = {
            name: float(v)
            for name, v in values.items()
            if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
        }
        for sink in list(self._sinks) if numbers else ():
            try:
                sink.log(numbers, step)
            except sink.failures as error:
                self._failed(sink, error)

    def _failed(self, sink: Sink, error: Exception) -> None:
        self._sinks.remove(sink)
        print(f"warning: {sink.spec} gets no further numbers: {_line(error)}", file=sys.stderr)


def tracker(*specs: str, name: str = "") -> Tracker:
    """A tracker for "tensorboard:FOLDER", "mlflow:URI" or "trackio:PROJECT", or for several.

    name: of the run; with TensorBoard the files go into FOLDER/NAME. Errors: EigenforgetError for
    an unknown spec, a missing library (the message names the extra) or a place that cannot be
    reached or written.
    """
    kinds = [_parsed(spec) for spec in specs]
    opened: list[Sink] = []
    try:
        for kind, spec in kinds:
            opened.append(kind(spec, name))
    except EigenforgetError:
        Tracker(opened).close(False)
        raise
    return Tracker(opened)


def check(specs: Sequence[str]) -> None:
    """Errors, before any work: one of the specs is wrong, or its library is missing."""
    for spec in specs:
        kind, _ = _parsed(spec)
        for module in kind.modules:
            needed(module, extra=kind.extra, what=f"--track {spec}")


@contextmanager
def tracking(specs: Sequence[str], *, name: str, leads: bool = True) -> Iterator[Tracker]:
    """The tracker while the context lasts; of several processes only the one that leads tracks."""
    found = tracker(*(specs if leads else ()), name=name)
    ok = False
    try:
        yield found
        ok = True
    finally:
        found.close(ok)


class _TensorBoard:
    extra: ClassVar[str] = "tensorboard"
    modules: ClassVar[tuple[str, ...]] = ("torch.utils.tensorboard",)
    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, spec: str, name: str) -> None:
        self.spec = spec
        board = needed("torch.utils.tensorboard", extra=self.extra, what=spec)
        folder = Path(_place(spec))
        try:
            self._writer = board.SummaryWriter(log_dir=str(folder / name if name else folder))
        except OSError as error:
            raise EigenforgetError(f"{spec}: cannot be written: {_line(error)}") from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self, ok: bool) -> None:
        self._writer.close()


class _Mlflow:
    extra: ClassVar[str] = "mlflow"
    modules: ClassVar[tuple[str, ...]] = ("mlflow",)

    def __init__(self, spec: str, name: str) -> None:
        self.spec = spec
        library = needed("mlflow", extra=self.extra, what=spec)
        self._metric = needed("mlflow.entities", extra=self.extra, what=spec).Metric
        self.failures: tuple[type[Exception], ...] = (library.MlflowException, OSError)
        try:
            self._client = library.MlflowClient(tracking_uri=_place(spec))
            known = self._client.get_experiment_by_name(EXPERIMENT)
            experiment = (
                known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
            )
            self._run = self._client.create_run(experiment, run_name=name or None).info.run_id
        # A database needs a package of its own.
        except (*self.failures, ImportError) as error:
            raise EigenforgetError(f"{spec}: cannot be opened: {_line(error)}") from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run,
            metrics=[
                self._metric(_mlflow_key(key), value, now, step) for key, value in values.items()
            ],
        )

    def close(self, ok: bool) -> None:
        self._client.set_terminated(self._run, status="FINISHED" if ok else "FAILED")


class _Trackio:
    extra: ClassVar[str] = "trackio"
    modules: ClassVar[tuple[str, ...]] = ("trackio",)
    failures: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError)

    def __init__(self, spec: str, name: str) -> None:
        self.spec = spec
        self._library = needed("trackio", extra=self.extra, what=spec)
        try:
            self._library.init(project=_place(spec), name=name or None)
        except self.failures as error:
            raise EigenforgetError(f"{spec}: cannot be opened: {_line(error)}") from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._library.log(dict(values), step=step)

    def close(self, ok: bool) -> None:
        self._library.finish()


_Kind = type[_TensorBoard] | type[_Mlflow] | type[_Trackio]
_KINDS: dict[str, _Kind] = {"tensorboard": _TensorBoard, "mlflow": _Mlflow, "trackio": _Trackio}


def _parsed(spec: str) -> tuple[_Kind, str]:
    kind = _KINDS.get(spec.partition(":")[0])
    if kind is None or not _place(spec):
        raise EigenforgetError(
            f"tracker {spec!r} is not tensorboard:FOLDER, mlflow:URI or trackio:PROJECT"
        )
    return kind, spec


def _place(spec: str) -> str:
    return spec.partition(":")[2].strip()


def _mlflow_key(key: str) -> str:
    """The key with only the characters that MLflow takes, and no part that a path would read as a
    place: it may become a file's name.
    """
    parts = [re.sub(r"[^\w\-. :]", "_", part).strip() for part in key.split("/")]
    return "/".join("_" if part.strip(".") == "" else part for part in parts)[:_LONGEST_KEY]


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
