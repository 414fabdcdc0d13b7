"""What many oracles take: to measure them, and to list, band and report a thousand.

    python benchmarks/scale.py --into benchmarks/results/scale.md

Processor seconds of one thread. The models are small networks on synthetic rows of ten classes.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from cyclopts import App
from speed import seconds, write_files
from torch import Tensor, nn

from eigenforget.core.types import Part
from eigenforget.data.sources import Source, TensorSource
from eigenforget.evaluation.board import Board, Panel
from eigenforget.record import RunRecord, chained, read, write_text
from eigenforget.record.verify import verify
from eigenforget.report import build, write_page
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

RECORDS = Path(__file__).parents[1] / "tests/golden/records"
CLASSES, GONE = 10, 3

app = App(help=__doc__)


class Row(NamedTuple):
    """A row of the table: what was done, how often, and what it took."""

    what: str
    count: int
    seconds: float
    further: str = ""

    def cells(self) -> str:
        """The row."""
        each = 1000 * self.seconds / self.count
        return f"| {self.what} | {self.seconds:.1f} s | {float(f'{each:.3g}'):,g} ms | {self.further} |"


@app.default
def main(
    *,
    into: Path | None = None,
    oracles: int = 100,
    rows: int = 20_000,
    width: int = 64,
    listed: int = 1_000,
) -> None:
    """Measures, prints and writes the table.

    Args:
        into: The file to write.
        oracles: Oracles that are measured beside each other; a fifth of them first.
        rows: Training samples.
        width: Columns.
        listed: Oracles of which there are records only.
    """
    torch.set_num_threads(1)
    found = [*of_oracles(oracles, rows, width)]
    with tempfile.TemporaryDirectory() as folder:
        found += of_records(listed, Path(folder))
    lines = [
        "# Scale\n",
        f"`python benchmarks/scale.py`; processor seconds of one thread of {os.cpu_count()} "
        f"{platform.machine()} cores.\n",
        "| what | whole | each | further |",
        "|---|---:|---:|---|",
        *(row.cells() for row in found),
        "",
    ]
    print("\n".join(lines))
    if into is not None:
        write_text(into, "\n".join(lines))


def of_oracles(count: int, rows: int, width: int) -> Iterator[Row]:
    """Measuring so many oracles beside each other with every default score."""
    parts = synthetic(rows, width)
    engine = Engine(device="cpu")
    models: list[nn.Module] = []
    taken = seconds(
        lambda: models.extend(trained(engine, parts, width, seed) for seed in range(count))
    )
    size = f"{rows:,} × {width}"
    yield Row(f"train {count} oracles, an epoch of {size}", count, taken)
    panel = Panel(parts, CLASSES, (GONE,), engine)
    for number in (max(2, count // 5), count):
        board = Board(panel, (), models[:number])
        taken = seconds(lambda board=board: board.oracle_values)  # type: ignore[misc]
        yield Row(f"measure {number} oracles on {size}", number, taken, memory())


def of_records(count: int, folder: Path) -> Iterator[Row]:
    """A chain of records of an original, a model and so many oracles: nothing is measured."""
    records = chain(count)
    write_files(records, folder)
    taken = seconds(lambda: verify([str(folder)]))
    yield Row(f"verify {len(records):,} records", len(records), taken)
    taken = seconds(lambda: build(records))
    yield Row(f"list and band {count:,} oracles", count, taken)
    page = folder / "report.html"
    taken = seconds(lambda: write_page(records, page, title=f"{count:,} oracles"))
    yield Row(f"report on {count:,} oracles", count, taken, f"{page.stat().st_size / 1e6:.1f} MB")


def chain(count: int) -> list[RunRecord]:
    """Sealed records: an original, so many oracles whose scores differ a little, and a model."""
    original, oracle, model = (
        read(RECORDS / name) for name in ("00-original.json", "01-oracle-1.json", "04-muda.json")
    )
    draw = random.Random(0)
    bases = [original]
    for number in range(count):
        scores = tuple(
            score if score.value is None else replace(score, value=moved(score.value, draw))
            for score in oracle.scores
        )
        bases.append(replace(oracle, name=f"oracle {number}", scores=scores))
    return list(chained([*bases, model]))


def moved(value: float, draw: random.Random) -> float:
    """A value near another one; shares stay shares."""
    return min(max(value + 0.01 * draw.random(), 0.0), max(1.0, value))


def synthetic(rows: int, width: int) -> dict[Part, Source]:
    """Normal rows around a centre of each class; one class is forgotten."""
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(0)) / 2

    def side(count: int, seed: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % CLASSES
        noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
        return centres[labels] + noise, labels

    (x, y), (x_test, y_test) = side(rows, 1), side(rows // 5, 2)
    return {
        "forget": TensorSource(x[y == GONE], y[y == GONE]),
        "retain": TensorSource(x[y != GONE], y[y != GONE]),
        "test_forget": TensorSource(x_test[y_test == GONE], y_test[y_test == GONE]),
        "test_retain": TensorSource(x_test[y_test != GONE], y_test[y_test != GONE]),
    }


def trained(engine: Engine, parts: dict[Part, Source], width: int, seed: int) -> nn.Module:
    """A network of 64 units after an epoch on the retain set."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
        )
    phase = Phase("train", (parts["retain"],), supervised, Optimizer(lr=0.05), 128)
    return engine.fit(model, [phase], epochs=1, seed=seed)


def memory() -> str:
    """The most that this process had in memory."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB at most"


if __name__ == "__main__":
    app()
