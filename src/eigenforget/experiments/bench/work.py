"""What a worker process of a bench does: train a model, measure baselines, unlearn and measure."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError, NotWritten, Refused
from eigenforget.core.imports import place_in_own_file
from eigenforget.core.text import listed
from eigenforget.data.bundle import Data
from eigenforget.evaluation.board import Board
from eigenforget.evaluation.records import own_measurement
from eigenforget.experiments.bench.jobs import (
    BaselineJob,
    Job,
    MethodJob,
    StudySpec,
    TrainingJob,
    changed_files,
)
from eigenforget.experiments.bench.observations import ObservationCache
from eigenforget.experiments.bench.store import Baselines, Store
from eigenforget.experiments.experiment import Experiment, described
from eigenforget.experiments.unseen import UnseenSamples
from eigenforget.methods.certified_head import certificate_of
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import Outcome, RunRecord, WriteError, seal
from eigenforget.record.schema import Status
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine
from eigenforget.training.processes import on_threads, silence_fabric

_LONGEST_REASON = 500

_Result = TypeVar("_Result")


class WorkerContext(NamedTuple):
    """What every job of a run shares.

    Attributes:
        store: Where models and results are kept.
        device: Kind of device that computes.
        threads: Processor threads of a worker.
        wait: Whether to wait for a job that another process has begun, instead of coming back to
            it later.
        retry: Whether jobs that were refused or failed are tried once more.
    """

    store: Store
    device: str = "cpu"
    threads: int = 1
    wait: bool = False
    retry: bool = False


class JobOutcome(NamedTuple):
    """How a job went.

    Attributes:
        status: "busy" where another process has begun it.
        reason: Why it has no result, and what was noticed.
        seconds: Wall time of the job.
        own_seconds: Of making and measuring a model.
    """

    status: Status | Literal["busy"]
    reason: str = ""
    seconds: float = 0.0
    own_seconds: float = 0.0


class Failure(NamedTuple):
    """Why a job has no result."""

    status: Literal["refused", "failed"]
    reason: str


@dataclass
class _StudyModels:
    """The models of a study, loaded, on a board."""

    study: StudySpec
    experiment: Experiment
    original: ModelAndCost
    oracles: tuple[ModelAndCost, ...]
    board: Board


# What this process worked on last: consecutive jobs share data, models and a board. Studies that
# take turns share what was observed of models that they have in common.
_last: dict[Path, _StudyModels] = {}
_observations = ObservationCache()
_data: dict[tuple[Any, str], Data] = {}
_notes: list[str] = []


def do(job: Job, context: WorkerContext) -> JobOutcome:
    """Does the job.

    Raises:
        NotWritten: The store cannot be written, so no other job would fare better.
        RecordError: The same.
    """
    silence_fabric()
    started = time.perf_counter()
    _notes.clear()
    context = context._replace(store=replace(context.store, warn=_notes.append))
    with (
        on_threads(context.threads),
        context.store.running(job.id),
        _told_with_the_outcome() as doubts,
    ):
        outcome = _outcome(job, context)
    reason = "; ".join([*([outcome.reason] if outcome.reason else []), *_notes, *doubts])
    return outcome._replace(seconds=time.perf_counter() - started, reason=reason)


@contextmanager
def _told_with_the_outcome() -> Iterator[list[str]]:
    """Collects warnings of this package, which would come from the middle of a worker."""
    with warnings.catch_warnings(), notices.collected() as lines:
        warnings.simplefilter("ignore", notices.EigenforgetWarning)
        yield lines


def _outcome(job: Job, context: WorkerContext) -> JobOutcome:
    if changed := changed_files(job):
        return JobOutcome(
            "failed", f"{listed(changed)} changed since the bench began; run the bench again"
        )
    if isinstance(job, MethodJob):
        return _do_method(job, context)
    if isinstance(job, BaselineJob):
        return _do_baselines(job, context)
    return _do_training(job, context)


def load_experiment(study: StudySpec, device: str) -> Experiment:
    """The study's experiment; data that the last one used is not loaded again."""
    engine = Engine(device=device, precision=study.precision, channels_last=study.channels_last)
    experiment = Experiment(
        study.data,
        study.model,
        study.recipe,
        study.request,
        engine,
        layer=study.layer or None,
        unseen=(UnseenSamples(study.unseen),) if study.unseen else (),
    )
    key = study.data, study.recipe.augment
    if key not in _data:
        _data.clear()
        _data[key] = experiment.data
    return replace(experiment, loaded=_data[key])


def failure_record(job: MethodJob, experiment: Experiment, why: Failure) -> RunRecord:
    """The record of a job that made no model."""
    return experiment.record(
        "evaluate",
        job.name,
        Outcome(why.status, 0.0, why.reason),
        role=job.method.role,
        job=_method_fields(job),
    )


def _tried(work: Callable[[], _Result]) -> _Result | Failure:
    """The result of the work, or why there is none.

    A plan meets code that others wrote here: whatever it raises costs one job.

    Raises:
        NotWritten: A full disk costs every job.
        WriteError: The same.
    """
    try:
        return work()
    except (NotWritten, WriteError):
        raise
    except Refused as error:
        return Failure("refused", _reason(error))
    except (Exception, SystemExit) as error:
        return Failure("failed", _reason(error))


def _do_training(job: TrainingJob, context: WorkerContext) -> JobOutcome:
    def trained() -> ModelAndCost:
        experiment = load_experiment(job.study, context.device)
        return context.store.cache().get(experiment, job.kind, job.seed)

    model = _tried(trained)
    if isinstance(model, Failure):
        return JobOutcome("failed", f"{job.kind} of seed {job.seed}: {model.reason}")
    return JobOutcome("ok", own_seconds=model.seconds)


def _do_baselines(job: BaselineJob, context: WorkerContext) -> JobOutcome:
    store, study = context.store, job.study
    with store.locked(f"baselines-{study.digest[7:]}", wait=context.wait) as mine:
        if not mine:
            return JobOutcome("busy")
        if store.baselines(study) is not None:
            return JobOutcome("ok")
        measured = _tried(lambda: _measure_baselines(study, context))
        if isinstance(measured, Failure):
            return JobOutcome("failed", measured.reason)
        models, records = measured
        store.write_baselines(study, records)
        _last[store.folder] = models
        seconds = sum(float(r.outcome.cost["measure_seconds"]) for r in records)
        return JobOutcome("ok", own_seconds=seconds)


def _measure_baselines(
    study: StudySpec, context: WorkerContext
) -> tuple[_StudyModels, list[RunRecord]]:
    models = _load(study, context, None)
    board, experiment = models.board, models.experiment
    records = []
    for number, seed in enumerate((study.seed, *study.oracles)):
        made = models.oracles[number - 1] if number else models.original
        found = board.measure_oracle(number - 1) if number else board.measure_original()
        name = f"oracle {number}" if number else "original"
        measurement, files = own_measurement(board.panel)
        job = {**measurement, "seed": seed, **_study_fields(study)}
        records.append(experiment.evaluation_record(name, made, found, job=job, inputs=files))
    return models, records


def _do_method(job: MethodJob, context: WorkerContext) -> JobOutcome:
    store = context.store
    with store.locked(f"method-{job.digest[7:]}", wait=context.wait) as mine:
        if not mine:
            return JobOutcome("busy")
        earlier = store.result(job)
        if earlier is not None and (earlier.outcome.status == "ok" or not context.retry):
            return JobOutcome(earlier.outcome.status, earlier.outcome.reason)
        found = _tried(lambda: _run(job, context))
        if isinstance(found, Failure):
            found = failure_record(job, load_experiment(job.study, context.device), found)
        store.write_result(job, found)
        own = found.outcome.seconds + float(found.outcome.cost.get("measure_seconds", 0.0))
        return JobOutcome(found.outcome.status, found.outcome.reason, own_seconds=own)


def _run(job: MethodJob, context: WorkerContext) -> RunRecord:
    study, folder = job.study, context.store.folder
    models = _last.get(folder)
    if models is None or models.study != study:
        baselines = context.store.baselines(study)
        if baselines is None:
            raise EigenforgetError(
                "the original and the retrained models of this study are not measured"
            )
        models = _last[folder] = _load(study, context, baselines)
    experiment = replace(models.experiment, retain_fraction=job.retain_fraction)
    original = models.original.model
    trace: list[Mapping[str, Any]] = []
    made = experiment.unlearn(original, job.method, seed=study.seed, log=trace.append)
    found = models.board.measure(made.model, job.method.role)
    measurement, files = own_measurement(models.board.panel)
    fields = measurement | _method_fields(job) | {"method": experiment.method_in_words(job.method)}
    fields |= unchanged_weights(original, after=made.model)
    fields |= certificate_of(made.model)
    record = experiment.evaluation_record(
        job.name, made, found, job=fields, trace=trace, inputs=files
    )
    seal(record)  # a method may have logged what no record can hold
    return record


def _load(study: StudySpec, context: WorkerContext, baselines: Baselines | None) -> _StudyModels:
    """Models from the cache, trained where they are missing, on a board."""
    experiment, cache = load_experiment(study, context.device), context.store.cache()
    inputs = experiment.data.digest, experiment.split.digest
    if baselines is not None and baselines.inputs != inputs:
        raise EigenforgetError(
            "data or split are not what they were when the retrained models were measured"
        )
    experiment = replace(experiment, known_split=experiment.split)
    original = cache.get(experiment, "original", study.seed)
    oracles = tuple(cache.get(experiment, "oracle", seed) for seed in study.oracles)
    panel = experiment.panel(
        seed=study.seed,
        layer=study.layer or None,
        layers=study.layers,
        skip=study.skip,
        metrics=study.metrics,
        audits=study.audits,
        map_points=study.map_points,
    )
    known = None if baselines is None else baselines.values
    observe = _observations.observer(study, experiment, panel.observe)
    models = [o.model for o in oracles]
    board = Board(panel, [original.model], models, known=known, observe=observe)
    return _StudyModels(study, experiment, original, oracles, board)


def _method_fields(job: MethodJob) -> dict[str, Any]:
    own = {
        "seed": job.study.seed,
        "method": described(job.method),
        "retain_fraction": job.retain_fraction,
        "job_digest": job.digest,
    }
    return own | _study_fields(job.study)


def _study_fields(study: StudySpec) -> dict[str, Any]:
    return {"study_digest": study.digest} | ({"layer": study.layer} if study.layer else {})


def _reason(error: BaseException) -> str:
    """One line; for what is no error of this package also where it happened."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    text = text.encode("utf-8", "backslashreplace").decode() or type(error).__name__
    if isinstance(error, EigenforgetError):
        return text
    where = place_in_own_file(error)
    if where is None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{where}: {type(error).__name__}: {text}"
