"""What a bench costs beyond its work: planning, listing, overhead of a cell, two workers against
one, and running a finished plan again.

    python benchmarks/bench_overhead.py --into benchmarks/results/bench_overhead.md

Digits, single-thread cells. On a machine that does other things the numbers mean little: two
workers need two free cores.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from statistics import fmean

from cyclopts import App

from eigenforget.experiments.bench import Bench, Plan, pool_of, read_plan, store_of
from eigenforget.experiments.bench.run import Outline
from eigenforget.experiments.bench.work import Answer, Task
from eigenforget.record import write_text

GRID = """
data = "digits()"
model = "small_resnet(width=8)"
recipe = "recipe(epochs=2, batch_size=64)"
seeds = [0, 1]
oracles = [10, 11, 12]
skip = ["relearning"]
[[grid]]
request = "by_class(label=3)"
method = [{methods}]
"""
THOUSAND = """
data = "digits()"
model = ["mlp(hidden=(8,))", "mlp(hidden=(9,))"]
request = ["by_class(label=3)", "by_class(label=4)"]
seeds = [0, 1, 2, 3, 4]
retain_fraction = [1.0, 0.1]
[[grid]]
method = [{methods}]
"""

app = App(help=__doc__)


@app.default
def main(*, into: Path | None = None, cells: int = 12, epochs: int = 12) -> None:
    """Measure, print and write the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [*planning(folder), *running(folder, cells, epochs)]
    text = "\n".join(
        [
            "# What a bench costs beyond its work\n",
            f"`python benchmarks/bench_overhead.py --cells {cells} --epochs {epochs}` on "
            f"{os.cpu_count()} cores ({platform.machine()}), one thread a cell.\n",
            "| what | measured | bound |",
            "|---|---|---|",
            *lines,
            "",
        ]
    )
    print(text)
    if into is not None:
        write_text(into, text)


def planning(folder: Path) -> list[str]:
    bench, seconds = timed(
        lambda: outlined(
            plan(folder, THOUSAND, [f"finetune(epochs={i + 1})" for i in range(25)]),
            folder / "empty",
        )
    )
    made, outline = bench
    (folder / "empty" / "cells").mkdir(parents=True)
    for cell in made.cells():
        (folder / "empty" / "cells" / f"{cell.digest[7:]}.ok.json").touch()
    statuses, listing = timed(made.store.statuses)
    return [
        row(f"read and plan {len(outline.cells)} cells", f"{seconds:.2f} s", "< 2 s"),
        row(f"list a store of {len(statuses)} cells", f"{listing:.3f} s", "< 1 s"),
    ]


def running(folder: Path, cells: int, epochs: int) -> list[str]:
    small = plan(folder, GRID, [f"finetune(epochs={epochs + i})" for i in range(cells)])
    ready = folder / "ready"
    run(
        small._replace(cells=small.cells[:1] + small.cells[cells : cells + 1]),
        ready,
        "sequential",
        1,
    )
    for path in (ready / "cells").glob("*"):
        path.unlink()
    answers, walls = {}, {}
    for workers in (1, 2):
        shutil.copytree(ready, folder / f"store{workers}")
        # Workers start and load torch in a first cell that does not count.
        warm = small._replace(cells=small.cells[: 2 * workers])
        run(warm, folder / f"store{workers}", "processes", workers)
        for path in (folder / f"store{workers}" / "cells").glob("*"):
            path.unlink()
        answers[workers], walls[workers] = run(
            small, folder / f"store{workers}", "processes", workers
        )
    overhead = [a.seconds - a.own_seconds for a in answers[1]]
    again, seconds = timed(lambda: outlined(small, folder / "store2")[1])
    return [
        row(
            f"two workers against one, {len(small.cells)} cells of {fmean(a.own_seconds for a in answers[1]):.1f} s",
            f"{walls[1] / walls[2]:.2f}× ({walls[1]:.1f} s, {walls[2]:.1f} s)",
            "≥ 1.7×",
        ),
        row(
            "overhead of a cell beyond making and measuring its model, mean",
            f"{fmean(overhead):.3f} s",
            "≤ 0.5 s",
        ),
        row(
            "the same, in the worst cell (it loads data and models)", f"{max(overhead):.3f} s", "–"
        ),
        row(
            "cells run again by a finished plan",
            f"{len(again.cells)} (looked up in {seconds:.2f} s)",
            "0",
        ),
    ]


def plan(folder: Path, text: str, methods: list[str]) -> Plan:
    path = folder / "plan.toml"
    path.write_text(text.format(methods=", ".join(f'"{m}"' for m in methods)), encoding="utf-8")
    return read_plan(path)


def outlined(chosen: Plan, store: Path) -> tuple[Bench, Outline]:
    bench = Bench(chosen, store_of(store), pool_of("sequential", threads=1))
    return bench, bench.outline()


def run(chosen: Plan, store: Path, backend: str, workers: int) -> tuple[list[Answer], float]:
    """The cells' answers, and the wall time of the whole run."""
    found: list[Answer] = []
    bench = Bench(chosen, store_of(store), pool_of(backend, workers, 1))

    def done(task: Task, answer: Answer) -> None:
        if task.cell is not None:
            found.append(answer)

    _, seconds = timed(lambda: bench.run(bench.outline(), lambda stage, total: done))
    return found, seconds


def timed(work):  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    app()
