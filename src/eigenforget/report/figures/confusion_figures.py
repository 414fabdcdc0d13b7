"""Which classes the models give to held-out samples of each class."""

from __future__ import annotations

from collections.abc import Sequence

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure, PlotCells, PlotShape
from eigenforget.report.figures.maps import map_models
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.style import FORGET, shown

_MAX_NUMBERED = 10  # with more classes the cells have no room for a number


def confusion_figure(records: Sequence[RunRecord]) -> Figure:
    """A panel for each model of the feature maps: shares of each class (line) by output (column).

    Lines of forgotten classes are framed. Numbers are percent of the line.

    Raises:
        RecordError: No record has the series confusion, or one is malformed.
    """
    before, judged, after = map_models(records, "confusion")
    picked = [*before, *judged, *after]
    panels = Panels([shown(r.name) for r in picked], height=340, columns=3)
    for i, record in enumerate(picked):
        matrix = series.read_confusion(record)
        rows, outputs = len(matrix.counts), len(matrix.counts[0])
        few = max(rows, outputs) <= _MAX_NUMBERED
        shares = [[n / sum(row) if sum(row) else None for n in row] for row in matrix.counts]
        texts = [[f"{100 * (share or 0):.0f}" for share in row] for row in shares] if few else ()
        panels.cells(i, PlotCells(shares, "sky", texts))
        for c in matrix.forgotten:
            ends = (-0.5, outputs - 0.5), (c - 0.5, c + 0.5)
            panels.shape(i, PlotShape(*ends, FORGET.line()))
        across = Axis("output", range=(-0.5, outputs - 0.5), ticks=_numbers(outputs))
        down = Axis("class", range=(rows - 0.5, -0.5), ticks=_numbers(rows))
        panels.axes(i, across, down)
    return panels.figure()


def _numbers(count: int) -> dict[float, str]:
    """Some twenty of the classes' numbers."""
    return {float(i): str(i) for i in range(0, count, -(-count // 20))}


def confusion_reading(records: Sequence[RunRecord]) -> str:
    """What the models take samples of the first forgotten class for."""
    before, judged, after = map_models(records, "confusion")
    told = []
    for record in (*after, *before, *judged[:1]):
        matrix = series.read_confusion(record)
        row = matrix.counts[matrix.forgotten[0]] if matrix.forgotten else []
        if sum(row):
            most = max(range(len(row)), key=row.__getitem__)
            told.append(f"{record.name}: class {most} ({100 * row[most] / sum(row):.0f}%)")
    return f"Forgotten samples are most often taken for: {'; '.join(told)}." if told else ""


CONFUSION_CHART = Chart(
    "confusion",
    confusion_figure,
    "Which class each sample is taken for",
    "Of the held-out samples of each class (lines), the share that the model takes for each class"
    " (columns). Framed: forgotten classes. Retrained models show where their samples go when"
    " nothing about them was learned.",
    confusion_reading,
    series="confusion",
)
