"""Who does the jobs of a bench: this process, other processes, a Ray cluster, or Slurm."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast, get_args

import joblib
from joblib.externals.loky import as_completed, get_reusable_executor
from joblib.externals.loky.backend.reduction import dumps
from joblib.externals.loky.process_executor import BrokenProcessPool

from eigenforget.core.errors import EigenforgetError, NotWritten
from eigenforget.core.extras import needed
from eigenforget.core.text import listed
from eigenforget.experiments.bench.jobs import Job
from eigenforget.experiments.bench.work import JobOutcome, WorkerContext, do
from eigenforget.record import RecordError

Backend = Literal["processes", "sequential", "ray", "slurm"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_LIBRARIES = {"ray": "ray", "slurm": "submitit"}
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# Seconds after which a worker without work ends.
_IDLE = 300
_WATCH_THREAD = "eigenforget bench: watch the parent"
# Clusters refuse larger arrays of Slurm jobs.
_ARRAY = 1000
# Deaths of a worker under the same job, after which the job counts as failed.
_DEATHS = 2
_DIED = "its worker died (killed, or out of memory), more than once"


class Pool(NamedTuple):
    """The workers of a bench.

    Attributes:
        backend: Who they are.
        workers: How many work at once.
        threads: Processor threads of each.
        cluster: Of submitit: "slurm", or "local" to try it out.
    """

    backend: Backend = "processes"
    workers: int = 1
    threads: int = 1
    cluster: str = "slurm"


def pool_of(
    backend: str, workers: int | None = None, threads: int | None = None, *, cuda: bool = False
) -> Pool:
    """A pool that uses each processor core of this machine once.

    Args:
        backend: One of BACKENDS.
        workers: How many workers, instead.
        threads: How many threads each, instead; by default what OMP_NUM_THREADS says, if it says
            a number.
        cuda: Whether a GPU computes, which local processes would share: then one worker, unless
            `workers` says otherwise.

    Raises:
        EigenforgetError: There is no such backend, its library is not installed, or a number is
            below 1 or far beyond what there is.
    """
    if backend not in BACKENDS:
        raise EigenforgetError(f"backend {backend!r}; there are {listed(BACKENDS)}")
    for what, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise EigenforgetError(f"{what} must be 1 or more, got {number}")
        if number is not None and number > 100_000:
            raise EigenforgetError(f"{what} must be 100,000 or less, got {number}")
    if backend in _LIBRARIES:
        _library(backend)
    cores = joblib.cpu_count()  # that this process may use
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        threads = max(1, int(os.environ["OMP_NUM_THREADS"]))
    if backend == "sequential":
        return Pool("sequential", 1, threads or cores)
    count = workers or (1 if cuda and backend == "processes" else max(1, cores // (threads or 1)))
    return Pool(cast(Backend, backend), count, threads or max(1, cores // count))


def outcomes(
    jobs: Sequence[Job], context: WorkerContext, pool: Pool
) -> Iterator[tuple[Job, JobOutcome]]:
    """Each job with its outcome, as they come.

    A job during which its worker died is tried once more, alone, and then counts as failed.
    """
    if pool.backend == "sequential":
        yield from ((job, do(job, context)) for job in jobs)
    elif pool.backend == "slurm":
        yield from _slurm(jobs, context, pool)
    elif pool.backend == "ray":
        yield from _ray(jobs, context, pool)
    else:
        yield from _processes(jobs, context, pool)


def _processes(
    jobs: Sequence[Job], context: WorkerContext, pool: Pool
) -> Iterator[tuple[Job, JobOutcome]]:
    """When a worker dies, loky ends the others as well.

    The jobs that had begun are under suspicion, and the others go on without them.
    """
    left = {job.id: job for job in jobs}
    suspects: dict[str, Job] = {}
    strange = 0
    while left:
        for job_id, outcome in _until_death(list(left.values()), context, pool):
            yield left.pop(job_id), outcome
        died = {job_id: left.pop(job_id) for job_id in context.store.died() if job_id in left}
        suspects |= died
        strange += bool(left and not died)
        if strange > 1:  # once a worker may have died between two jobs
            raise EigenforgetError(
                f"workers die before they begin; {len(left)} jobs are left. "
                "Take fewer --workers, or --backend sequential"
            )
    for job in suspects.values():
        yield job, _alone(job, context, pool)


def _alone(job: Job, context: WorkerContext, pool: Pool) -> JobOutcome:
    """The job by itself, so that a death is its own."""
    for _ in range(_DEATHS - 1):
        # To its end, since outcomes that are left in the middle end the worker.
        if found := list(_until_death([job], context, pool)):
            return found[0][1]
        context.store.died()
    return JobOutcome("failed", _DIED)


def _until_death(
    jobs: Sequence[Job], context: WorkerContext, pool: Pool
) -> Iterator[tuple[str, JobOutcome]]:
    """Outcomes, by the id of the job, until all are there or a worker dies."""
    count, whole = min(pool.workers, len(jobs)), False
    limits = dict.fromkeys(_THREADS, str(pool.threads))
    # Kept from one stage to the next, with what the workers have loaded and seen.
    executor = get_reusable_executor(count, timeout=_IDLE, env=limits)
    try:
        begun = [
            executor.submit(_watched, job.id, _packed(job), context, os.getpid()) for job in jobs
        ]
        for future in as_completed(begun):
            yield future.result()
        whole = True
    except BrokenProcessPool:
        return
    finally:
        if not whole:
            with _quiet_threads():
                executor.shutdown(kill_workers=True)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keeps back the tracebacks of threads: that of loky may miss the jobs that were taken away."""
    shown, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = shown


def _packed(job: Job) -> bytes:
    """The job for another process, which meets the errors of the user's files as it unpacks it."""
    return bytes(dumps(job))


def do_packed(packed: bytes, context: WorkerContext) -> JobOutcome:
    """Does a packed job. One whose file does not run any more has failed."""
    try:
        job = pickle.loads(packed)
    except EigenforgetError as error:
        return JobOutcome("failed", str(error))
    return do(job, context)


def _watched(
    job_id: str, packed: bytes, context: WorkerContext, parent: int
) -> tuple[str, JobOutcome]:
    """The job's id and outcome, from a worker that ends with the bench."""
    if not any(thread.name == _WATCH_THREAD for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(parent,), name=_WATCH_THREAD, daemon=True).start()
    return job_id, do_packed(packed, context)


def _end_with(parent: int) -> None:
    """Ends this worker when the bench is gone.

    A bench that is killed cannot tell its workers, which would keep memory and locks for minutes.
    """
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _ray(
    jobs: Sequence[Job], context: WorkerContext, pool: Pool
) -> Iterator[tuple[Job, JobOutcome]]:
    """Ray tasks on the cluster that RAY_ADDRESS or `ray start` names, or on one of this machine.

    Ray itself tries a lost task once more.
    """
    ray = _library("ray")
    if not ray.is_initialized():
        _start_ray(ray, cores=pool.workers * pool.threads)
    gpus = int(context.device == "cuda")
    work = ray.remote(num_cpus=pool.threads, num_gpus=gpus, max_retries=_DEATHS - 1)(do_packed)
    waiting = list(jobs)
    running: dict[Any, Job] = {}
    while waiting or running:
        while waiting and len(running) < pool.workers:
            job = waiting.pop(0)
            running[work.remote(_packed(job), context)] = job
        ready, _ = ray.wait(list(running))
        yield running.pop(ready[0]), _ray_outcome(ray, ready[0])


def _start_ray(ray: Any, *, cores: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    named = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=named or "auto", **quiet)
    except ConnectionError as error:
        if named:
            raise EigenforgetError(
                f"no Ray cluster at RAY_ADDRESS={named}: {str(error).splitlines()[0]}"
            ) from None
        ray.init(num_cpus=cores, include_dashboard=False, **quiet)


def _ray_outcome(ray: Any, promise: Any) -> JobOutcome:
    try:
        return cast(JobOutcome, ray.get(promise))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:
        return JobOutcome("failed", _DIED)


def _slurm(
    jobs: Sequence[Job], context: WorkerContext, pool: Pool
) -> Iterator[tuple[Job, JobOutcome]]:
    """One Slurm job of an array for each job; one that did not end is submitted once more.

    submitit's files are in the store until all is done.
    """
    folder = context.store.folder / "slurm"
    executor = _library("slurm").AutoExecutor(folder=folder, cluster=pool.cluster)
    executor.update_parameters(
        name="eigenforget",
        cpus_per_task=pool.threads,
        timeout_min=24 * 60,
        slurm_array_parallelism=pool.workers,
        **({"gpus_per_node": 1} if context.device == "cuda" else {}),
    )
    left = list(jobs)
    for _ in range(_DEATHS):
        dead: list[Job] = []
        for first in range(0, len(left), _ARRAY):
            for job, outcome in _array(executor, left[first : first + _ARRAY], context):
                if outcome is None:
                    dead.append(job)
                else:
                    yield job, outcome
        left = dead
        if not left:
            break
    why = f"its Slurm job did not end, {_DEATHS} times; see {folder}"
    yield from ((job, JobOutcome("failed", why)) for job in left)
    if not left:
        shutil.rmtree(folder, ignore_errors=True)


def _array(
    executor: Any, jobs: Sequence[Job], context: WorkerContext
) -> Iterator[tuple[Job, JobOutcome | None]]:
    """Each job of one array with its outcome, None where its Slurm job was killed."""
    submitit = _library("slurm")
    errors = submitit.core.utils
    try:
        submitted = executor.map_array(_carried, map(_packed, jobs), [context] * len(jobs))
    except errors.FailedSubmissionError as error:
        raise EigenforgetError(f"Slurm took no job: {' '.join(str(error).split())[:300]}") from None
    job_of = {slurm_job.job_id: job for slurm_job, job in zip(submitted, jobs, strict=True)}
    for slurm_job in submitit.helpers.as_completed(submitted):
        try:
            found = slurm_job.result()
        except (errors.FailedJobError, errors.UncompletedJobError):
            yield job_of[slurm_job.job_id], None
            continue
        if isinstance(found, str):
            raise NotWritten(found)
        yield job_of[slurm_job.job_id], found


def _carried(packed: bytes, context: WorkerContext) -> JobOutcome | str:
    """The outcome, or why the store cannot be written.

    What a Slurm job raises comes back as a page of traceback.
    """
    try:
        return do_packed(packed, context)
    except (NotWritten, RecordError, OSError) as error:
        return str(error)


def _library(backend: str) -> Any:
    return needed(_LIBRARIES[backend], extra=backend, what=f"--backend {backend}")
