"""Who does the tasks of a bench: this process, processes on this machine, a Ray cluster, or Slurm."""

from __future__ import annotations

import importlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from eigenforget.core.errors import EigenforgetError, NotWritten
from eigenforget.core.text import listed
from eigenforget.experiments.bench.store import Store
from eigenforget.experiments.bench.work import Answer, Home, Task, do
from eigenforget.record import RecordError

Backend = Literal["processes", "sequential", "ray", "slurm"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_EXTRAS = {"ray": "ray", "slurm": "submitit"}
_WATCH = "eigenforget bench: watch the parent"
_ARRAY = 1000
"""Jobs of one Slurm array; clusters refuse larger ones."""
_DEATHS = 2
"""Of a worker under the same task, after which the task counts as failed."""
_DIED = "its worker died (killed, or out of memory), more than once"


class Pool(NamedTuple):
    """backend, the number of workers, and the processor threads of each. cluster: of submitit
    ("slurm", or "local" to try it out).
    """

    backend: Backend = "processes"
    workers: int = 1
    threads: int = 1
    cluster: str = "slurm"


def pool_of(
    backend: str, workers: int | None = None, threads: int | None = None, *, cuda: bool = False
) -> Pool:
    """A pool that uses each processor core of this machine once, or as many workers and threads as
    are named.

    cuda: the work goes to a GPU, which local processes would share, so that by default there is
    one. Errors: EigenforgetError for another backend, one whose library is not installed, and
    numbers below 1.
    """
    if backend not in BACKENDS:
        raise EigenforgetError(f"backend {backend!r}; there are {listed(BACKENDS)}")
    for what, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise EigenforgetError(f"{what} must be 1 or more, got {number}")
    if backend in _EXTRAS:
        _needed(_EXTRAS[backend], backend)
    cores = _cores()
    if backend == "sequential":
        return Pool("sequential", 1, threads or cores)
    count = workers or (1 if cuda and backend == "processes" else max(1, cores // (threads or 1)))
    return Pool(backend, count, threads or max(1, cores // count))  # type: ignore[arg-type]


def answers(tasks: Sequence[Task], home: Home, pool: Pool) -> Iterator[tuple[Task, Answer]]:
    """Each task with its answer, as they come. A task during which its worker died is tried again,
    alone, and then counts as failed.
    """
    if pool.backend == "sequential":
        yield from ((task, do(task, home)) for task in tasks)
    elif pool.backend == "slurm":
        yield from _slurm(tasks, home, pool)
    elif pool.backend == "ray":
        yield from _ray(tasks, home, pool)
    else:
        yield from _restarted(tasks, home, pool)


def _restarted(tasks: Sequence[Task], home: Home, pool: Pool) -> Iterator[tuple[Task, Answer]]:
    """When a worker dies, joblib ends the others as well: who had begun is suspected, and the rest
    goes on without them.
    """
    left = {task.id: task for task in tasks}
    suspects: dict[str, Task] = {}
    strange = 0
    while left:
        for task_id, answer in _until_death(list(left.values()), home, pool):
            yield left.pop(task_id), answer
        died = {task_id: left.pop(task_id) for task_id in home.store.died() if task_id in left}
        suspects |= died
        strange += bool(left and not died)
        if strange > 1:  # once a worker may have died between two tasks
            raise EigenforgetError(
                f"workers die before they begin; {len(left)} tasks are left. Take fewer --workers, or --backend sequential"
            )
    for task in suspects.values():
        yield task, _alone(task, home, pool)


def _alone(task: Task, home: Home, pool: Pool) -> Answer:
    """The task by itself, so that a death is its own."""
    for _ in range(_DEATHS - 1):
        for _, answer in _until_death([task], home, pool):
            return answer
        home.store.died()
    return Answer("failed", _DIED)


def _until_death(tasks: Sequence[Task], home: Home, pool: Pool) -> Iterator[tuple[str, Answer]]:
    """Answers, by the id of the task, until all are there or a worker dies."""
    # One worker alone would be this very process, which a death would end: so two, of which one has
    # work at a time.
    count = min(pool.workers, len(tasks))
    with joblib.parallel_config(backend="loky", inner_max_num_threads=pool.threads):
        parallel = joblib.Parallel(
            n_jobs=max(2, count),
            pre_dispatch=1 if count == 1 else "2 * n_jobs",
            return_as="generator_unordered",
            batch_size=1,
        )
        try:
            yield from parallel(
                joblib.delayed(_named)(do, task, home, os.getpid()) for task in tasks
            )
        except BrokenProcessPool:
            return


def _named(
    work: Callable[[Task, Home], Answer], task: Task, home: Home, parent: int
) -> tuple[str, Answer]:
    if not any(thread.name == _WATCH for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(parent,), name=_WATCH, daemon=True).start()
    return task.id, work(task, home)


def _end_with(parent: int) -> None:
    """Ends this worker when the bench is gone: killed, it could not tell its workers, which would
    keep memory and locks for minutes.
    """
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _ray(tasks: Sequence[Task], home: Home, pool: Pool) -> Iterator[tuple[Task, Answer]]:
    """Ray tasks on the cluster that RAY_ADDRESS or `ray start` names, or on one of this machine.
    Ray tries a lost task once more.
    """
    ray = _needed("ray", "ray")
    if not ray.is_initialized():
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        named = os.environ.get("RAY_ADDRESS")
        try:
            ray.init(address=named or "auto", **quiet)
        except ConnectionError as error:
            if named:
                raise EigenforgetError(
                    f"no Ray cluster at RAY_ADDRESS={named}: {str(error).splitlines()[0]}"
                ) from None
            ray.init(num_cpus=pool.workers * pool.threads, include_dashboard=False, **quiet)
    work = ray.remote(
        num_cpus=pool.threads, num_gpus=int(home.device == "cuda"), max_retries=_DEATHS - 1
    )(do)
    waiting = list(tasks)
    running: dict[Any, Task] = {}
    while waiting or running:
        while waiting and len(running) < pool.workers:
            task = waiting.pop(0)
            running[work.remote(task, home)] = task
        ready, _ = ray.wait(list(running))
        yield running.pop(ready[0]), _ray_answer(ray, ready[0])


def _ray_answer(ray: Any, reference: Any) -> Answer:
    try:
        answer: Answer = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:
        return Answer("failed", _DIED)
    return answer


def _slurm(tasks: Sequence[Task], home: Home, pool: Pool) -> Iterator[tuple[Task, Answer]]:
    """One job of an array for each task; one that did not end is submitted once more. submitit's
    files are in the store until all is done.
    """
    submitit = _needed("submitit", "slurm")
    folder = home.store.folder / "slurm"
    executor = submitit.AutoExecutor(folder=folder, cluster=pool.cluster)
    gpus = {"gpus_per_node": 1} if home.device == "cuda" else {}
    limits = {
        "cpus_per_task": pool.threads,
        "timeout_min": 24 * 60,
        "slurm_array_parallelism": pool.workers,
    }
    executor.update_parameters(name="eigenforget", **limits, **gpus)
    todo = list(tasks)
    for _ in range(_DEATHS):
        dead: list[Task] = []
        for first in range(0, len(todo), _ARRAY):
            for task, answer in _array(submitit, executor, todo[first : first + _ARRAY], home):
                if answer is None:
                    dead.append(task)
                else:
                    yield task, answer
        todo = dead
        if not todo:
            break
    yield from (
        (task, Answer("failed", f"its Slurm job did not end, {_DEATHS} times; see {folder}"))
        for task in todo
    )
    if not todo:
        shutil.rmtree(folder, ignore_errors=True)


def _array(
    submitit: Any, executor: Any, tasks: Sequence[Task], home: Home
) -> Iterator[tuple[Task, Answer | None]]:
    """Each task of one array with its answer, None where its job was killed."""
    utils = submitit.core.utils
    try:
        jobs = executor.map_array(_carried, tasks, [home] * len(tasks))
    except utils.FailedSubmissionError as error:
        raise EigenforgetError(f"Slurm took no job: {' '.join(str(error).split())[:300]}") from None
    of = {job.job_id: task for job, task in zip(jobs, tasks, strict=True)}
    for job in submitit.helpers.as_completed(jobs):
        try:
            found = job.result()
        except (utils.FailedJobError, utils.UncompletedJobError):
            yield of[job.job_id], None
            continue
        if isinstance(found, str):
            raise NotWritten(found)
        yield of[job.job_id], found


def _carried(task: Task, home: Home) -> Answer | str:
    """The answer, or in a text why the store cannot be written: Slurm's jobs give back what they
    raise as a page of traceback.
    """
    try:
        return do(task, home)
    except (NotWritten, RecordError, OSError) as error:
        return str(error)


def _needed(library: str, backend: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError:
        raise EigenforgetError(
            f"--backend {backend} needs {library}: pip install 'eigenforget[{backend}]'"
        ) from None


def _cores() -> int:
    """Cores that this process may use."""
    return joblib.cpu_count()


def store_of(folder: str | Path, warn: Callable[[str], None] = lambda text: None) -> Store:
    """The store in this folder; what is damaged is said through `warn`. Errors: it is a file."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise EigenforgetError(f"--store {path} is a file; a store is a folder")
    return Store(path.absolute(), warn=warn)
