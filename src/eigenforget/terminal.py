"""What commands show while they work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from eigenforget.engine import Log
from eigenforget.study import Watch

console = Console()


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny kernels lose more time to thread hand-over than they win, and a busy machine makes that far worse."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def progress() -> Iterator[Watch]:
    """Progress bars while work goes on; one line per finished step where the output is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=console.is_terminal) as bars:

        def watch(title: str, total: int) -> Log:
            row_id = bars.add_task(title, total=total, note="")

            def log(row: Mapping[str, Any]) -> None:
                loss = row.get("loss")
                bars.update(row_id, advance=1, note="" if loss is None else f"{row['phase']} loss {loss:.3f}")

            return log

        yield watch
