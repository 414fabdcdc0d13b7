"""`eigenforget bench`, `cache` and `leaderboard`: plans of any size, the models they share, and one
table over all of them.
"""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from eigenforget.cli.terminal import console, engine
from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.bench import Bench, Outline, pool_of, read_plan, store_of
from eigenforget.experiments.bench.results import read_problems, write_out
from eigenforget.experiments.bench.run import Done, Observer
from eigenforget.experiments.bench.work import Answer, Task
from eigenforget.experiments.model_cache import ModelCache
from eigenforget.record import write_text
from eigenforget.report.pages.leaderboard import Problem, leaderboard_table

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BEGIN, _END = "<!-- leaderboard: {} -->", "<!-- end of leaderboard -->"


def bench(
    path: Path,
    *,
    store: Path,
    out: Path,
    backend: str,
    workers: int | None,
    threads: int | None,
    device: str,
    retry: bool,
    dry_run: bool,
) -> int:
    """`eigenforget bench`: 0 when every cell has a result, 1 where some failed or were refused."""
    plan = read_plan(path)
    for name, folder in (("--out", out), ("--store", store)):
        inside = next((p for p in (folder, *folder.parents) if p.exists()), folder)
        if inside.exists() and not inside.is_dir():
            raise EigenforgetError(f"{name} {folder}: {inside} is a file; results go into a folder")
    kind = engine(device=device).fabric.device.type
    pool = pool_of(backend, workers, threads, cuda=kind == "cuda")
    made = Bench(plan, store_of(store, lambda text: say(f"warning: {text}")), pool, kind)
    outline = made.outline(again=retry)
    say(f"{plan.title} on {kind}: {described(outline, pool.workers)}")
    if any(len(setting.oracles) < 2 for setting in plan.settings):
        say("a band takes two retrained models: with one, methods are measured and not judged")
    if dry_run:
        for task in (*outline.models, *outline.settings, *outline.cells):
            say(f"  {task.title}: {task.setting.title}")
        return 0
    try:
        with _progress(_Refreshed(made, out)) as observer:
            made.run(outline, observer)
    except KeyboardInterrupt:
        say("stopped: what is finished is kept, and the same command goes on from there")
        raise
    finally:
        places = write_out(made, out)
    statuses = made.store.statuses()
    bad = [cell for cell in made.cells() if statuses.get(cell.digest) != "ok"]
    say(f"wrote {out}/leaderboard.md, table.csv and the records of {len(places)} settings")
    say(f"a page of one of them: eigenforget report {out}/PROBLEM/seedN/records")
    if bad:
        say(
            f"{len(bad)} of {len(plan.cells)} cells have no model; the table says why. What was refused or failed is run again with --retry"
        )
    return 1 if bad else 0


def described(outline: Outline, workers: int) -> str:
    """The outline in one line."""
    done = ", ".join(f"{number} {status}" for status, number in outline.done.items())
    parts = [f"{outline.total} cells" + (f" ({done} already)" if done else "")]
    parts.append(
        f"to do: {len(outline.cells)} cells, {len(outline.models)} models to train, {len(outline.settings)} settings to measure"
    )
    if outline.cells:
        at_once = min(workers, len(outline.cells))
        unknown = "no estimate before something alike is finished"
        parts.append(
            unknown if outline.seconds is None else f"about {_time(outline.seconds / at_once)}"
        )
    return "; ".join(parts)


def write_leaderboard(folders: tuple[Path, ...], into: Path | None) -> None:
    """`eigenforget leaderboard`: one table over the results of any number of plans, printed or put
    into a document.
    """
    problems: dict[str, Problem] = {}
    for folder in folders:
        found = read_problems(folder)
        if not found:
            raise EigenforgetError(f"{folder} has no results of a bench (PROBLEM/seedN/records)")
        problems |= {f"{folder}/{name}": problem for name, problem in found.items()}
    below = Path.cwd() if into is None else into.absolute().parent
    links = {
        name: os.path.relpath(Path(name).absolute(), below).replace(os.sep, "/")
        for name in problems
    }
    short = {name: Path(name).name for name in problems}
    for name in problems:  # two plans may share a problem
        if list(short.values()).count(short[name]) > 1:
            short[name] = "/".join(Path(name).parts[-2:])
    text = leaderboard_table(
        [
            p._replace(title=f"[{short[name]}]({links[name]}/summary.md)")
            for name, p in problems.items()
        ]
    )
    if into is None:
        print(text, end="")
        return
    _put(into, " ".join(map(str, folders)), text)
    say(f"wrote the table into {into}")


def list_cache(folder: Path) -> None:
    """`eigenforget cache list`."""
    cache = _cache(folder)
    entries = cache.entries()
    table = Table("file", "MiB", "last used", "model", "data")
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        table.add_row(
            entry.path.name,
            f"{entry.size / 2**20:.1f}",
            used,
            entry.about.get("model", ""),
            entry.about.get("data", ""),
        )
    console.print(table)
    aside = cache.set_aside()
    say(
        f"{len(entries)} models, {sum(e.size for e in entries) / 2**20:.1f} MiB"
        + (f"; {len(aside)} damaged ones set aside" if aside else "")
    )


def prune_cache(folder: Path, max_size: str) -> None:
    """`eigenforget cache prune`."""
    limit = bytes_of(max_size)
    cache = _cache(folder)
    for path in cache.set_aside():
        path.unlink(missing_ok=True)
    removed = cache.prune(limit)
    say(
        f"removed {len(removed)} models, {sum(e.size for e in removed) / 2**20:.1f} MiB, the longest unused first"
    )


def check_cache(folder: Path) -> int:
    """`eigenforget cache check`: 1 where a model is damaged."""
    cache = _cache(folder)
    lines = cache.damaged()
    for line in lines:
        say(line)
    count = len(list(cache.folder.glob("*.safetensors")))
    say(
        f"{count} models, {len(lines)} damaged"
        + ("; they are trained anew when they are needed" if lines else "")
    )
    return 1 if lines else 0


def bytes_of(text: str) -> int:
    """20G, 500M, 0. Errors: it is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise EigenforgetError(f"--max-size {text!r} is no size such as 20G, 500M or 0")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


class _Refreshed:
    """The results folder, made anew from time to time while a bench runs, so that they can be
    looked at as they come.
    """

    def __init__(self, bench: Bench, out: Path, seconds: float = 300.0) -> None:
        self._bench, self._out, self._wait, self._next = (
            bench,
            out,
            seconds,
            time.monotonic() + seconds,
        )

    def __call__(self) -> None:
        started = time.monotonic()
        if started < self._next:
            return
        write_out(self._bench, self._out)
        # At most a twentieth of the time goes into it, however many cells there are.
        self._next = time.monotonic() + max(self._wait, 20 * (time.monotonic() - started))


@contextmanager
def _progress(refresh: Callable[[], None]) -> Iterator[Observer]:
    """A bar for each stage with the time left, and a line for each answer."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=console.is_terminal) as bars:

        def observer(stage: str, total: int) -> Done:
            row = bars.add_task(stage, total=total, visible=total > 0)
            count = 0

            def done(task: Task, answer: Answer) -> None:
                nonlocal count
                count += 1
                bars.update(row, advance=1)
                why = f": {answer.reason}" if answer.reason else ""
                say(
                    f"{stage} {count}/{total}: {task.title} {answer.status} ({answer.seconds:.1f} s){why}"
                )
                refresh()

            return done

        yield observer


def _cache(folder: Path) -> ModelCache:
    """The cache in this folder, or in the store in this folder."""
    path = folder / "models" if (folder / "models").is_dir() else folder
    if not path.is_dir():
        raise EigenforgetError(f"{folder} is no folder of a store or of trained models")
    return ModelCache(path)


def _put(into: Path, source: str, text: str) -> None:
    """Replaces what stands between the marks in the document."""
    begin = _BEGIN.format(source)
    try:
        old = into.read_text(encoding="utf-8")
    except OSError as error:
        raise EigenforgetError(f"{into}: cannot be read: {error.strerror or error}") from None
    before, mark, rest = old.partition(begin)
    _, end, after = rest.partition(_END)
    if not mark or not end:
        raise EigenforgetError(
            f"{into} has no lines {begin!r} and {_END!r}, between which the table goes"
        )
    write_text(into, f"{before}{begin}\n\n{text}\n{_END}{after}")


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return (
        f"{seconds:.0f} s"
        if minutes < 2
        else f"{minutes:.0f} min"
        if minutes < 120
        else f"{minutes / 60:.1f} h"
    )
