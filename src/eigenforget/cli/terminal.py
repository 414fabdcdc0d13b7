"""What commands share while they work: the console, progress bars, the engine."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from eigenforget.cli.endings import Terminal
from eigenforget.cli.launching import check_launched
from eigenforget.record import RunRecord
from eigenforget.record.fields import printable

if TYPE_CHECKING:  # commands that only read records load no torch
    from eigenforget.training.engine import Engine
    from eigenforget.training.log import Log, Watch

console = Terminal()


def say(line: str, *, wrap: bool = True) -> None:
    """Prints a line; without `wrap` it stays one line on a narrow terminal.

    Control characters are escaped.
    """
    shown = "\n".join(map(printable, line.split("\n")))
    console.print(shown, highlight=False, markup=False, soft_wrap=not wrap)


def quoted(word: str) -> str:
    """A word of a command line as it may be pasted into a shell, in the quotes that read best."""
    if "'" in word and not set('"$`\\!\n') & set(word):
        return f'"{word}"'
    return shlex.quote(word)


def one_thread() -> AbstractContextManager[None]:
    """Runs a block on one thread of torch.

    With tiny kernels, switching threads costs more time than it saves, much more on a busy machine.
    """
    from eigenforget.training.processes import on_threads

    return on_threads(1)


@contextmanager
def progress() -> Iterator[Watch]:
    """Progress bars; where the output is no terminal, a line as each step begins and ends."""
    if not console.is_terminal:
        yield _lines
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:

        def watch(title: str, total: int) -> Log:
            bar = bars.add_task(title, total=total, note="")

            def log(row: Mapping[str, Any]) -> None:
                bars.update(bar, advance=1, note=_note(row))

            return log

        yield watch


def _lines(title: str, total: int) -> Log:
    """Progress for a file or a pipe, which is read while the work goes on."""
    begun, done = time.perf_counter(), 0
    say(f"{title} …")

    def log(row: Mapping[str, Any]) -> None:
        nonlocal done
        done += 1
        if done == total:
            took = f"{title}: {time.perf_counter() - begun:.0f} s"
            say(", ".join(filter(None, (took, _note(row)))))

    return log


def _note(row: Mapping[str, Any]) -> str:
    loss = row.get("loss")
    return "" if loss is None else f"{row['phase']} loss {loss:.3f}"


def engine(*, devices: int = 1, **fields: Any) -> Engine:
    """The engine of a command, from fields of `Engine`.

    Fabric's own notices are silenced: the user reads the table. Of several processes, only
    the first writes to the console.
    """
    from eigenforget.training.engine import Engine
    from eigenforget.training.processes import check_settings, silence_fabric

    checked = ("device", "precision", "strategy", "accumulate")
    check_settings(devices=devices, **{name: fields[name] for name in checked if name in fields})
    check_launched(devices)
    silence_fabric()
    found = Engine(devices=devices, **fields)
    if found.devices > 1:
        found.fabric.launch()
        console.quiet = not found.leads
    return found


def show_results(records: Sequence[RunRecord], out: Path) -> None:
    """Prints the table of a folder of results, and where its files are."""
    from eigenforget.report.pages.console import rich_table

    console.print(rich_table(records, console.width))
    say(f"wrote {out}/report.html, {out}/table.csv and {len(records)} records in {out}/records")
