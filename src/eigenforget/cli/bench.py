"""`eigenforget bench`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from eigenforget.cli.options import Device
from eigenforget.cli.terminal import console, engine, say
from eigenforget.core import notices
from eigenforget.core.text import counted
from eigenforget.experiments.bench import Bench, Outline, Store, pool_of, read_plan
from eigenforget.experiments.bench.jobs import Job
from eigenforget.experiments.bench.results import write_out
from eigenforget.experiments.bench.run import Observer, OnOutcome
from eigenforget.experiments.bench.work import JobOutcome
from eigenforget.record import check_place


def bench(
    plan: Annotated[Path, Parameter(help="TOML file with the plan; see docs/bench.md")],
    /,
    *,
    store: Annotated[
        Path,
        Parameter(
            help="folder in which models and finished jobs are kept; several plans may share it"
        ),
    ] = Path("store"),
    out: Annotated[
        Path | None, Parameter(help="folder of the results; default: results/NAME-OF-THE-PLAN")
    ] = None,
    backend: Annotated[str, Parameter(help="processes, sequential, ray or slurm")] = "processes",
    workers: Annotated[
        int | None,
        Parameter(help="number of parallel workers; default: one for each processor core"),
    ] = None,
    threads: Annotated[
        int | None,
        Parameter(
            help="processor threads of a worker; default: OMP_NUM_THREADS, or cores over workers"
        ),
    ] = None,
    device: Device = "auto",
    retry: Annotated[
        bool, Parameter(help="run failed and refused jobs again", negative=())
    ] = False,
    dry_run: Annotated[bool, Parameter(help="only list what would be done", negative=())] = False,
) -> None:
    r"""Run a plan: data × models × requests × methods × seeds.

    Finished jobs are never run again, so you can stop and continue at any time. Exit code 1 if a
    job failed or was refused.

    Example:
        printf '%s\n' 'data = "digits()"' 'model = "mlp()"' '[[grid]]' \
            'request = "by_class(label=3)"' 'method = ["finetune()", "not_()"]' > plan.toml
        eigenforget bench plan.toml --workers 2
    """
    found, results = read_plan(plan), out or Path("results") / plan.stem
    _check_folders(results, store)
    kind = engine(device=device).fabric.device.type
    pool = pool_of(backend, workers, threads, cuda=kind == "cuda")
    run = Bench(found, Store.at(store, notices.warn), pool, kind)
    outline = run.outline(retry=retry)
    tell(f"{found.title} on {kind}: {outlined(outline, pool.workers)}")
    if any(len(study.oracles) < 2 for study in found.studies):
        tell("a band needs two retrained models; with one, methods are measured but not judged")
    if dry_run:
        everything: tuple[Job, ...] = (*outline.training, *outline.baselines, *outline.methods)
        for job in everything:
            tell(f"  {job.title}: {job.study.title}")
        return
    try:
        with _progress(Refresher(run, results)) as observer:
            run.run(outline, observer, retry=retry)
    except KeyboardInterrupt:
        tell("stopped: finished jobs are kept, and the same command continues from there")
        raise
    finally:
        studies = write_out(run, results)
    count = counted(len(studies), "study", "studies")
    tell(f"wrote {results}/leaderboard.md, table.csv and the records of {count}")
    tell(f"to make a page of one study: eigenforget report {results}/EXPERIMENT/seedN/records")
    statuses = run.store.statuses()
    bad = [job for job in run.jobs() if statuses.get(job.digest) != "ok"]
    if bad:
        tell(
            f"{len(bad)} of {len(found.jobs)} jobs have no model; the table says why. Use "
            "--retry to run refused and failed jobs again"
        )
    raise SystemExit(1 if bad else 0)


def outlined(outline: Outline, workers: int) -> str:
    """The outline in one line."""
    done = ", ".join(f"{number} {status}" for status, number in outline.done.items())
    parts = [
        counted(outline.total, "job", "jobs") + (f" ({done} already)" if done else ""),
        f"to do: {counted(len(outline.methods), 'job', 'jobs')}, "
        f"{counted(len(outline.training), 'model', 'models')} to train, "
        f"{counted(len(outline.baselines), 'study', 'studies')} to measure",
    ]
    if outline.methods and outline.seconds is None:
        parts.append("no estimate until a similar job has finished")
    elif outline.methods and outline.seconds is not None:
        at_once = min(workers, len(outline.methods))
        parts.append(f"about {_duration(outline.seconds / at_once)}")
    return "; ".join(parts)


def tell(line: str) -> None:
    """Prints a line that stays one line on a narrow terminal."""
    say(line, wrap=False)


class Refresher:
    """Writes the results folder from time to time while a bench runs.

    Args:
        bench: The bench that makes the results.
        out: The folder.
        seconds: Least time between two writings. It grows with the time that a writing takes, so
            that writing never takes more than a twentieth of the whole.
    """

    def __init__(self, bench: Bench, out: Path, seconds: float = 300.0) -> None:
        self._bench, self._out, self._seconds = bench, out, seconds
        self._next = time.monotonic() + seconds

    def __call__(self) -> None:
        """Writes the results if it is time."""
        started = time.monotonic()
        if started < self._next:
            return
        write_out(self._bench, self._out)
        now = time.monotonic()
        self._next = now + (max(self._seconds, 20 * (now - started)) if self._seconds else 0.0)


@contextmanager
def _progress(refresh: Callable[[], None]) -> Iterator[Observer]:
    """A bar for each stage with the time left, and a line for each job."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=console.is_terminal) as bars:

        def observer(stage: str, total: int) -> OnOutcome:
            bar = bars.add_task(stage, total=total, visible=total > 0)
            count = 0

            def on_outcome(job: Job, outcome: JobOutcome) -> None:
                nonlocal count
                count += 1
                bars.update(bar, advance=1)
                why = f": {outcome.reason}" if outcome.reason else ""
                went = f"{outcome.status} ({outcome.seconds:.1f} s){why}"
                tell(f"{stage} {count}/{total}: {job.title} {went}")
                refresh()

            return on_outcome

        yield observer


def _check_folders(*folders: Path) -> None:
    for folder in folders:
        check_place(folder, overwrite=True, folder=True)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
