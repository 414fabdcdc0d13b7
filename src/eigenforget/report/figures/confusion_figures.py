"""Which classes the models give to held-out samples of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.overview import shown_models
from eigenforget.report.figures.panels import Panels, heat_cells
from eigenforget.report.figures.style import INK, SKY, VERMILLION, shown

_MAX_NUMBERED = 10  # with more classes the cells have no room for a number


def confusion_figure(records: Sequence[RunRecord]) -> go.Figure:
    """A panel for each model of the feature maps: shares of each class (line) by output (column).

    Lines of forgotten classes are framed. Counts are shown on hover.

    Raises:
        RecordError: No record has the series confusion, or one is malformed.
    """
    picked = shown_models(series.having(records, "confusion"))
    panels = Panels([shown(r.name) for r in picked], height=300, columns=3, gap=80)
    for i, record in enumerate(picked):
        matrix = series.read_confusion(record)
        rows, outputs = len(matrix.counts), len(matrix.counts[0])
        few = max(rows, outputs) <= _MAX_NUMBERED
        trace = heat_cells(
            [[round(n / sum(row), 4) if sum(row) else None for n in row] for row in matrix.counts],
            (0, 1),
            text=matrix.counts,
            colorscale=[(0, "#ffffff"), (1, SKY)],
            texttemplate="%{z:.2f}" if few else "",
            textfont={"size": 9, "color": INK},
            hovertemplate=f"{shown(record.name)}: class %{{y}} called %{{x}}<br>%{{text}} samples,"
            " %{z:.1%} of the class<extra></extra>",
        )
        panels.cells(i, trace)
        frame: dict[str, Any] = {"type": "rect", "line": {"color": VERMILLION, "width": 2}}
        for c in matrix.forgotten:
            panels.shape(i, x0=-0.5, x1=outputs - 0.5, y0=c - 0.5, y1=c + 0.5, **frame)
        ticks = {"nticks": 11, "tickformat": "d", "automargin": True}
        down = {"range": [rows - 0.5, -0.5], "title": {"text": "class"}}
        panels.axes(i, {**ticks, "title": {"text": "output"}}, {**ticks, **down})
    return panels.figure()


CONFUSION_CHART = Chart(
    "confusion",
    confusion_figure,
    "Which class each sample is taken for",
    "Of the held-out samples of each class (lines), the share that the model takes for each class"
    " (columns). Framed: forgotten classes. Retrained models show where their samples go when"
    " nothing about them was learned.",
    series="confusion",
)
