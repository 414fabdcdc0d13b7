"""What the models call held-out samples of each class.

Errors: RecordError when no record has the series, or one is malformed.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.overview import chosen
from eigenforget.report.figures.style import (
    SKY,
    VERMILLION,
    Panels,
    axis,
    dress,
    key,
    lay_out,
    shown,
    title_panels,
)

_NUMBERED = 10
"""With more classes the cells have no room for a number."""


def confusion(records: Sequence[RunRecord]) -> go.Figure:
    """A panel per model, those of the feature maps: of the samples of each class (rows), the share
    that is called each class (columns).

    Rows of forgotten classes are framed. Counts are shown on hover.
    """
    picked = chosen(series.having(records, "confusion"))
    fig = go.Figure()
    for i, record in enumerate(picked):
        matrix = series.confusion(record)
        totals = [sum(row) for row in matrix.counts]
        shares = [
            [round(n / total, 4) if total else None for n in row]
            for row, total in zip(matrix.counts, totals, strict=True)
        ]
        rows, outputs = len(matrix.counts), len(matrix.counts[0])
        few = max(rows, outputs) <= _NUMBERED
        fig.add_heatmap(
            z=shares,
            text=matrix.counts,
            xaxis=axis("x", i),
            yaxis=axis("y", i),
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            colorscale=[(0, "#ffffff"), (1, SKY)],
            texttemplate="%{z:.2f}" if few else "",
            textfont={"size": 9, "color": "#111111"},
            hovertemplate=f"{shown(record.name)}: class %{{y}} called %{{x}}<br>%{{text}} samples, %{{z:.1%}} of the class<extra></extra>",
        )
        for c in matrix.forgotten:
            frame = {
                "x0": -0.5,
                "x1": outputs - 0.5,
                "y0": c - 0.5,
                "y1": c + 0.5,
                "line": {"color": VERMILLION, "width": 2},
            }
            fig.add_shape(type="rect", xref=axis("x", i), yref=axis("y", i), **frame)
        ticks = {"nticks": 11, "tickformat": "d", "automargin": True}
        down = {"range": [rows - 0.5, -0.5], "title": {"text": "class"}}
        fig.update_layout(
            {key("x", i): {**ticks, "title": {"text": "called"}}, key("y", i): {**ticks, **down}}
        )
    dress(fig, height=400)
    title_panels(fig, [shown(r.name) for r in picked])
    return lay_out(fig, Panels(len(picked), 300, gap=80), wide=3)
