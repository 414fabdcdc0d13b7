"""What commands show while they work."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from eigenforget.record import RunRecord
from eigenforget.report.pages.console import rich_table
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log, Watch

console = Console()


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny kernels lose more time to thread hand-over than they win, and a busy machine makes that
    far worse.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def progress() -> Iterator[Watch]:
    """Progress bars while work goes on; one line per finished step where the output is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=console.is_terminal) as bars:

        def watch(title: str, total: int) -> Log:
            row_id = bars.add_task(title, total=total, note="")

            def log(row: Mapping[str, Any]) -> None:
                loss = row.get("loss")
                bars.update(
                    row_id,
                    advance=1,
                    note="" if loss is None else f"{row['phase']} loss {loss:.3f}",
                )

            return log

        yield watch


class Sharing(NamedTuple):
    """Fields of an engine: how many devices share the work and how, batches to a step, and whether
    training is compiled.
    """

    devices: int = 1
    strategy: str = "auto"
    accumulate: int = 1
    compile: bool = False


def engine(
    *,
    device: str,
    precision: str = "32-true",
    channels_last: bool = False,
    sharing: Sharing | None = None,
) -> Engine:
    """The engine of a command; Fabric's own notices are silenced, the table is what the user reads.
    Of several processes the first speaks.
    """
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    found = Engine(device, precision, channels_last, **(sharing or Sharing())._asdict())
    if found.devices > 1:
        found.fabric.launch()
        console.quiet = not found.leads
    return found


def show_results(records: Sequence[RunRecord], out: Path) -> None:
    """The table of a folder of results, and where its files are."""
    console.print(rich_table(records, console.width))
    console.print(
        f"wrote {out}/report.html, {out}/table.csv and {len(records)} records in {out}/records",
        highlight=False,
    )
