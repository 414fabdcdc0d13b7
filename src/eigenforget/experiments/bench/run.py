"""Runs a plan: what is missing is trained, measured and kept; what is there is never done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.experiments.bench.jobs import BaselineJob, Job, MethodJob, StudySpec, TrainingJob
from eigenforget.experiments.bench.plan import Plan
from eigenforget.experiments.bench.store import Baselines, Store
from eigenforget.experiments.bench.work import (
    Failure,
    JobOutcome,
    WorkerContext,
    failure_record,
    load_experiment,
)
from eigenforget.experiments.bench.workers import Pool, outcomes
from eigenforget.experiments.model_cache import ModelKind
from eigenforget.models.features import capture
from eigenforget.record.schema import Status

OnOutcome = Callable[[Job, JobOutcome], None]
Observer = Callable[[str, int], OnOutcome]
"""observer(stage, number of jobs) -> a function that is called with each job and its outcome."""

_SAMPLED = 100


def unobserved(stage: str, total: int) -> OnOutcome:
    """Shows nothing."""
    del stage, total
    return _ignore


def _ignore(job: Job, outcome: JobOutcome) -> None:
    del job, outcome


class Outline(NamedTuple):
    """What a plan comes to.

    Attributes:
        training: Models to train.
        baselines: Originals and oracles to measure.
        methods: Methods to run.
        done: Finished jobs of methods by status.
        seconds: Of one worker for all that is to do; None before anything alike is finished.
    """

    training: tuple[TrainingJob, ...]
    baselines: tuple[BaselineJob, ...]
    methods: tuple[MethodJob, ...]
    done: dict[Status, int]
    seconds: float | None

    @property
    def total(self) -> int:
        """How many jobs of methods the plan has, finished or not."""
        return len(self.methods) + sum(self.done.values())


@dataclass(frozen=True)
class Bench:
    """A plan, where its results are kept, and who does the work.

    Attributes:
        plan: What is run.
        store: Where models and results are kept.
        pool: The workers.
        device: Kind of device as for an engine, such as "cpu" or "cuda".
    """

    plan: Plan
    store: Store
    pool: Pool
    device: str = "cpu"

    def jobs(self) -> tuple[MethodJob, ...]:
        """The plan's jobs on this device and number of threads, which change the results."""
        threads = self.pool.threads if self.device == "cpu" else 1
        studies = {
            study: replace(study, device=self.device, threads=threads)
            for study in self.plan.studies
        }
        return tuple(replace(job, study=studies[job.study]) for job in self.plan.jobs)

    def by_study(self) -> dict[StudySpec, list[MethodJob]]:
        """The jobs of each study, both in the order of the plan."""
        found: dict[StudySpec, list[MethodJob]] = {}
        for job in self.jobs():
            found.setdefault(job.study, []).append(job)
        return found

    def outline(self, *, retry: bool = False) -> Outline:
        """What is to do. Loads each data set once and splits it.

        Args:
            retry: Whether jobs that were refused or failed are to do as well.

        Raises:
            EigenforgetError: Data, request, model or layer do not fit each other, or data or split
                are not those of results in the store.
        """
        jobs, statuses = self.jobs(), self.store.statuses()
        missing = {job.digest: job for job in jobs if job.digest not in statuses}
        bad = {job.digest: job for job in jobs if statuses.get(job.digest) in ("refused", "failed")}
        left = missing | bad if retry else missing
        done = Counter(statuses[job.digest] for job in jobs if job.digest not in left)
        training: dict[str, TrainingJob] = {}
        baselines = []
        # One data set after the other: only one is held in memory.
        for study, own in sorted(self.by_study().items(), key=lambda item: spell(item[0].data)):
            work = any(job.digest in left for job in own)
            useful = work or any(statuses[job.digest] == "ok" for job in own)
            measure = self._checked(study) is None and useful
            if measure:
                baselines.append(BaselineJob(study))
            if work or measure:
                training |= self._missing_models(study)
        todo = tuple(job for job in jobs if job.digest in left)
        finished = [job for job in jobs if statuses.get(job.digest) == "ok"]
        seconds = self._estimate(finished, training.values(), baselines, todo)
        return Outline(tuple(training.values()), tuple(baselines), todo, dict(done), seconds)

    def run(
        self, outline: Outline, observer: Observer = unobserved, *, retry: bool = False
    ) -> dict[str, int]:
        """Does what the outline says. What fails costs its own jobs only.

        Args:
            outline: What is to do.
            observer: Shows progress.
            retry: As for `outline`.

        Returns:
            The number of jobs of methods by their status now.

        Raises:
            NotWritten: The store cannot be written; all that was finished is kept.
            RecordError: The same.
        """
        store = Store(self.store.folder, self.store.run)
        context = WorkerContext(store, self.device, self.pool.threads, retry=retry)
        broken: dict[StudySpec, str] = {}
        try:
            for stage, jobs in (
                ("train models", outline.training),
                ("measure retrained models", outline.baselines),
            ):
                for job, outcome in self._observed(stage, jobs, broken, context, observer):
                    if outcome.status != "ok":
                        broken |= dict.fromkeys(self._users(job, outline), outcome.reason)
            return self._run_methods(outline.methods, broken, context, observer)
        finally:
            self.store.tidy()

    def _run_methods(
        self,
        jobs: Sequence[MethodJob],
        broken: dict[StudySpec, str],
        context: WorkerContext,
        observer: Observer,
    ) -> dict[str, int]:
        lost = [job for job in jobs if job.study in broken]
        for lost_job in lost:
            self._write_failure(lost_job, broken[lost_job.study], context)
        counts = Counter({"failed": len(lost)})
        for job, outcome in self._observed("run methods", jobs, broken, context, observer):
            counts[outcome.status] += 1
            # A worker that died could not write down that its job failed.
            unwritten = isinstance(job, MethodJob) and job.digest not in self.store.statuses()
            if outcome.status == "failed" and isinstance(job, MethodJob) and unwritten:
                self._write_failure(job, outcome.reason, context)
        return {status: number for status, number in counts.items() if number}

    def _observed(
        self,
        stage: str,
        jobs: Sequence[Job],
        broken: dict[StudySpec, str],
        context: WorkerContext,
        observer: Observer,
    ) -> Iterator[tuple[Job, JobOutcome]]:
        """The outcomes of jobs whose study can go on; those that others have begun come last."""
        ready = [job for job in jobs if job.study not in broken]
        on_outcome = observer(stage, len(ready))
        busy: list[Job] = []
        for job, outcome in outcomes(ready, context, self.pool):
            if outcome.status == "busy":
                busy.append(job)
            else:
                on_outcome(job, outcome)
                yield job, outcome
        for job, outcome in outcomes(busy, context._replace(wait=True), self.pool) if busy else ():
            on_outcome(job, outcome)
            yield job, outcome

    def _checked(self, study: StudySpec) -> Baselines | None:
        """The baselines of the study, where they are measured.

        Raises:
            EigenforgetError: The study cannot be run, or its stored results are of other data.
        """
        experiment, baselines = load_experiment(study, self.device), self.store.baselines(study)
        now = experiment.data.digest, experiment.split.digest
        if baselines is not None and baselines.inputs != now:
            what = "content" if baselines.inputs[0] != now[0] else "split by the request"
            raise EigenforgetError(
                f"{spell(study.data)}: its {what} is not what it was when results in "
                f"{self.store.folder} were made; take another --store"
            )
        if baselines is None:
            experiment.panel(layer=study.layer or None, layers=study.layers)
            with capture(experiment.new_model(0), study.layer or None, study.layers):
                pass  # the layers are there
        return baselines

    def _missing_models(self, study: StudySpec) -> dict[str, TrainingJob]:
        """Jobs for the models that the study needs and the cache lacks, by their files."""
        experiment = load_experiment(study, self.device)
        cache = self.store.cache(self.pool.threads)
        oracles: list[tuple[ModelKind, int]] = [("oracle", seed) for seed in study.oracles]
        jobs = {}
        for kind, seed in [("original", study.seed), *oracles]:
            path = cache.path_for(experiment, kind, seed)
            if not path.exists():
                jobs[str(path)] = TrainingJob(study, kind, seed)
        return jobs

    def _users(self, job: Job, outline: Outline) -> list[StudySpec]:
        """Studies that cannot go on without this job."""
        if not isinstance(job, TrainingJob):
            return [job.study]
        path = self._model_path(job.study, job)
        users = []
        for study in dict.fromkeys(other.study for other in outline.methods):
            seeds = (study.seed,) if job.kind == "original" else study.oracles
            same = all(
                getattr(study, name) == getattr(job.study, name)
                for name in ("data", "model", "recipe")
            )
            if same and job.seed in seeds and self._model_path(study, job) == path:
                users.append(study)
        return users

    def _model_path(self, study: StudySpec, job: TrainingJob) -> str:
        experiment = load_experiment(study, self.device)
        cache = self.store.cache(self.pool.threads)
        return str(cache.path_for(experiment, job.kind, job.seed))

    def _write_failure(self, job: MethodJob, reason: str, context: WorkerContext) -> None:
        """Puts on record that a job failed, unless another bench has finished it meanwhile."""
        with self.store.locked(f"method-{job.digest[7:]}", wait=True):
            if self.store.result(job) is None or context.retry:
                experiment = load_experiment(job.study, self.device)
                self.store.write_result(
                    job, failure_record(job, experiment, Failure("failed", reason))
                )

    def _estimate(
        self,
        finished: Sequence[MethodJob],
        training: Collection[TrainingJob],
        baselines: Sequence[BaselineJob],
        todo: Sequence[MethodJob],
    ) -> float | None:
        """Seconds of one worker for what is to do, from a sample of what is finished."""
        if not todo:
            return 0.0
        seconds: dict[str, list[float]] = {}
        for job in finished[:: max(1, len(finished) // _SAMPLED)]:
            seconds.setdefault(job.method.name, []).append(self._seconds(job))
        trained = self._training_seconds(training)
        if not seconds or trained is None:
            return None
        everyone = [value for values in seconds.values() for value in values]
        own = sum(fmean(seconds.get(job.method.name, everyone)) for job in todo)
        measured = sum(1 + len(job.study.oracles) for job in baselines) * fmean(everyone)
        return trained + own + measured

    def _seconds(self, job: MethodJob) -> float:
        found = self.store.result(job)
        if found is None:
            return 0.0
        return found.outcome.seconds + float(found.outcome.cost.get("measure_seconds", 0.0))

    def _training_seconds(self, jobs: Collection[TrainingJob]) -> float | None:
        """Seconds of one worker, by what stored models of the same spec, recipe and data took.

        None where there is no such model for a job.
        """
        stored = self.store.cache().entries() if jobs else ()
        total = 0.0
        for job in jobs:
            own = {key: spell(getattr(job.study, key)) for key in ("model", "recipe", "data")}
            known = [
                float(model.about["seconds"])
                for model in stored
                if own.items() <= model.about.items()
            ]
            if not known:
                return None
            total += fmean(known)
        return total
