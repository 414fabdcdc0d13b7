"""What a bench costs beyond its work: planning, listing, overhead of a job, two workers against
one, and running a finished plan again.

    python benchmarks/bench_overhead.py --into benchmarks/results/bench_overhead.md

Digits, jobs of one thread. On a machine that does other things the numbers mean little: two workers
need two free cores.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from cyclopts import App

from eigenforget.experiments.bench import Bench, Outline, Plan, Store, pool_of, read_plan
from eigenforget.experiments.bench.jobs import Job, MethodJob
from eigenforget.experiments.bench.work import JobOutcome
from eigenforget.record import write_text

SMALL = """
data = "digits()"
model = "small_resnet(width=8)"
recipe = "recipe(epochs=2, batch_size=64)"
seeds = [0, 1]
skip = ["relearning"]
[[grid]]
request = "by_class(label=3)"
method = [{methods}]
"""
LARGE = """
data = "digits()"
model = ["mlp(hidden=(8,))", "mlp(hidden=(9,))"]
request = ["by_class(label=3)", "by_class(label=4)"]
seeds = [0, 1, 2, 3, 4]
retain_fraction = [1.0, 0.1]
[[grid]]
method = [{methods}]
"""
Found = TypeVar("Found")

app = App(help=__doc__)


@app.default
def main(*, into: Path | None = None, jobs: int = 12, epochs: int = 12) -> None:
    """Measure, print and write the table."""
    with tempfile.TemporaryDirectory() as name:
        rows = [*planning(Path(name)), *running(Path(name), jobs, epochs)]
    lines = [
        "# What a bench costs beyond its work\n",
        f"`python benchmarks/bench_overhead.py --jobs {jobs} --epochs {epochs}` on "
        f"{os.cpu_count()} cores ({platform.machine()}), one thread a job.\n",
        "| what | measured | bound |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    print("\n".join(lines))
    if into is not None:
        write_text(into, "\n".join(lines))


def planning(folder: Path) -> list[tuple[str, str, str]]:
    """How long reading, planning and listing take."""

    def outlined() -> tuple[Bench, Outline]:
        bench = bench_of(plan(folder, LARGE, range(1, 26)), folder / "empty")
        return bench, bench.outline()

    (bench, outline), seconds = timed(outlined)
    done = folder / "empty" / "jobs"
    done.mkdir(parents=True)
    for job in bench.jobs():
        (done / f"{job.digest[7:]}.ok.json").touch()
    statuses, listing = timed(bench.store.statuses)
    return [
        (f"read and plan {len(outline.methods)} jobs", f"{seconds:.2f} s", "< 2 s"),
        (f"list a store of {len(statuses)} jobs", f"{listing:.3f} s", "< 1 s"),
    ]


def running(folder: Path, jobs: int, epochs: int) -> list[tuple[str, str, str]]:
    """How long a plan takes with one worker and with two, beyond the work itself."""
    small = plan(folder, SMALL, range(epochs, epochs + jobs))
    ready = folder / "ready"
    run(small._replace(jobs=(small.jobs[0], small.jobs[jobs])), ready, "sequential", 1)
    outcomes, walls = {}, {}
    for workers in (1, 2):
        store = shutil.copytree(ready, folder / f"store{workers}")
        # Workers start and load torch in a first job that does not count.
        run(small._replace(jobs=small.jobs[: 2 * workers]), store, "processes", workers)
        shutil.rmtree(store / "jobs")
        outcomes[workers], walls[workers] = run(small, store, "processes", workers)
    own = fmean(outcome.own_seconds for outcome in outcomes[1])
    beyond = [outcome.seconds - outcome.own_seconds for outcome in outcomes[1]]
    again, seconds = timed(bench_of(small, folder / "store2").outline)
    return [
        (
            f"two workers against one, {len(small.jobs)} jobs of {own:.1f} s",
            f"{walls[1] / walls[2]:.2f}× ({walls[1]:.1f} s, {walls[2]:.1f} s)",
            "≥ 1.7×",
        ),
        (
            "overhead of a job beyond making and measuring its model, mean",
            f"{fmean(beyond):.3f} s",
            "≤ 0.5 s",
        ),
        ("the same, in the worst job (it loads data and models)", f"{max(beyond):.3f} s", "–"),
        (
            "jobs run again by a finished plan",
            f"{len(again.methods)} (looked up in {seconds:.2f} s)",
            "0",
        ),
    ]


def plan(folder: Path, text: str, epochs: Iterable[int]) -> Plan:
    """The plan with a method for each number of epochs."""
    methods = ", ".join(f'"finetune(epochs={number})"' for number in epochs)
    return read_plan(write_text(folder / "plan.toml", text.format(methods=methods)))


def bench_of(chosen: Plan, store: Path, backend: str = "sequential", workers: int = 1) -> Bench:
    return Bench(chosen, Store.at(store), pool_of(backend, workers, 1))


def run(chosen: Plan, store: Path, backend: str, workers: int) -> tuple[list[JobOutcome], float]:
    """The outcomes of the plan's methods, and the wall time of the whole run."""
    found: list[JobOutcome] = []
    bench = bench_of(chosen, store, backend, workers)

    def on_outcome(job: Job, outcome: JobOutcome) -> None:
        if isinstance(job, MethodJob):
            found.append(outcome)

    _, seconds = timed(lambda: bench.run(bench.outline(), lambda stage, total: on_outcome))
    return found, seconds


def timed(work: Callable[[], Found]) -> tuple[Found, float]:
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


if __name__ == "__main__":
    app()
