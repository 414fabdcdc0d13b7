"""What features of the size of ImageNet-1k take: 1.28 million rows of 2,048, 1,000 classes.

    python benchmarks/imagenet_size.py --into benchmarks/results/imagenet_size.md

Synthetic features of a network lie in a file of 5.2 GB (16-bit floats) that is mapped from disk.
Their moments, the alignment of a class, and methods that change the head stream over it in one
process. Processor seconds of one thread, and the most memory until then, mapped pages included.
"""

from __future__ import annotations

import os
import platform
import resource
import tempfile
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from cyclopts import App
from speed import seconds
from torch import Tensor, nn

import eigenforget
from eigenforget.alignment import Moments, alignment_curve, default_k, merge, moments
from eigenforget.data.sources import Source, as_source
from eigenforget.record import write_text
from eigenforget.training.engine import Engine

BLOCK = 8_192
"""Rows that are in memory at once."""

app = App(help=__doc__)


class Row(NamedTuple):
    """A row of the table: what was done, what it took, and what was found."""

    what: str
    seconds: float
    found: str = ""

    def cells(self) -> str:
        """The row, with the most memory that the process had until now."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return f"| {self.what} | {self.seconds:,.0f} s | {peak:.1f} GiB | {self.found} |"


class Sides(NamedTuple):
    """The features and labels of forget and retain set, mapped from disk."""

    forget: tuple[np.ndarray, np.ndarray]
    retain: tuple[np.ndarray, np.ndarray]


@app.default
def main(
    *,
    into: Path | None = None,
    folder: Path | None = None,
    rows: int = 1_281_167,
    width: int = 2_048,
    classes: int = 1_000,
    methods: tuple[str, ...] = ("delete(epochs=5, lr=0.05)", "head_mask()", "finetune(epochs=1)"),
) -> None:
    """Measures, prints and writes the table.

    Args:
        into: The file to write.
        folder: Where the features are kept for the length of the run; by default among the
            temporary files.
        rows: Rows of both sides.
        width: Features.
        classes: Classes; the first is forgotten.
        methods: Methods that unlearn with the head alone as the model.
    """
    torch.set_num_threads(1)
    lines = [
        "# Features of the size of ImageNet-1k\n",
        f"`python benchmarks/imagenet_size.py`: {rows:,} × {width:,}, {classes:,} classes, the "
        f"first one forgotten; processor seconds of one thread of {os.cpu_count()} "
        f"{platform.machine()} cores; the most memory until then, mapped pages included.\n",
        "| what | processor time | memory | found |",
        "|---|---:|---:|---|",
    ]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for row in measured(Path(name) / "features.npy", rows, width, classes, methods):
            lines.append(row.cells())
            print(lines[-1], flush=True)
    if into is not None:
        write_text(into, "\n".join([*lines, ""]))


def measured(
    path: Path, rows: int, width: int, classes: int, methods: tuple[str, ...]
) -> Iterator[Row]:
    """The rows of the table."""
    taken = seconds(lambda: write_features(path, rows, width, classes))
    yield Row(f"write {path.stat().st_size / 1e9:.1f} GB of features", taken)
    sides = sides_of(path, rows, classes)
    retain, forget = as_source(sides.retain, "retain"), as_source(sides.forget, "forget")
    found: list[Moments] = []
    taken = seconds(lambda: found.extend(map(streamed, (forget, retain))))
    yield Row("moments of forget and retain set in float64", taken)
    curve: list[Tensor] = []
    taken = seconds(lambda: curve.append(alignment_curve(*found)))
    k = default_k(classes - 1, width=width)
    yield Row("the whole curve of DA", taken, f"DA {float(curve[0][k - 1]):.4f} at k = {k}")
    heads: list[nn.Module] = []
    taken = seconds(lambda: heads.append(nearest_mean_head(retain, forget, width, classes)))
    head = heads[0]
    engine = Engine(device="cpu")
    few = retain.subset(np.arange(0, len(retain), max(1, len(retain) // 20_000)))
    before = [float(engine.correct(head, side).mean()) for side in (forget, few)]
    yield Row("a head from class means", taken, accuracies(before))
    for method in methods:
        models: list[nn.Module] = []
        taken = seconds(
            lambda method=method, models=models: models.append(  # type: ignore[misc]
                eigenforget.unlearn(
                    head, forget=sides.forget, retain=sides.retain, method=method, engine=engine
                )
            )
        )
        after = [float(engine.correct(models[0], side).mean()) for side in (forget, few)]
        yield Row(f"`{method}`", taken, accuracies(after))


def accuracies(sides: list[float]) -> str:
    """Accuracies on the forget set and on a part of the retain set, in words."""
    forget, retain = sides
    return f"accuracy on forget {forget:.3f}, on 20,000 retained {retain:.3f}"


def write_features(path: Path, rows: int, width: int, classes: int) -> None:
    """Features after a ReLU, around a centre of each class, the classes one after the other."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=generator) / 4
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, width))
    for start in range(0, rows, BLOCK):
        block = slice(start, min(start + BLOCK, rows))
        labels = labels_of(rows, classes)[block]
        noise = torch.randn(len(labels), width, generator=generator)
        file[block] = (centres[labels] + noise).relu_().half().numpy()
    file.flush()


def labels_of(rows: int, classes: int) -> np.ndarray:
    """The label of each row, in order."""
    return np.arange(rows) * classes // rows


def sides_of(path: Path, rows: int, classes: int) -> Sides:
    """The first class and all others."""
    features, labels = np.load(path, mmap_mode="r"), labels_of(rows, classes)
    first = int(np.searchsorted(labels, 1))
    return Sides((features[:first], labels[:first]), (features[first:], labels[first:]))


def streamed(source: Source) -> Moments:
    """The moments of all rows, block by block."""
    return reduce(merge, (moments(batch.inputs.float()) for batch in source.batches(BLOCK)))


def nearest_mean_head(retain: Source, forget: Source, width: int, classes: int) -> nn.Module:
    """The linear classifier of the nearest class mean."""
    sums, counts = torch.zeros(classes, width), torch.zeros(classes, 1)
    for source in (forget, retain):
        for batch in source.batches(BLOCK):
            sums.index_add_(0, batch.labels, batch.inputs.float())
            counts.index_add_(0, batch.labels, torch.ones(len(batch.labels), 1))
    means = sums / counts.clamp_min(1)
    head = nn.Linear(width, classes)
    with torch.no_grad():
        head.weight.copy_(means)
        head.bias.copy_(-means.square().sum(1) / 2)
    return nn.Sequential(head).eval()


if __name__ == "__main__":
    app()
