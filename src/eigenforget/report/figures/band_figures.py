"""Figures of bands, relearning, layers and classes. Each takes evaluate records and draws what they
hold.

Errors: RecordError when no record has what the figure needs, or a series is malformed.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.style import (
    GREEN,
    Panels,
    axis,
    dress,
    key,
    lay_out,
    shown,
    stand,
    styles,
    title_panels,
)
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import build, in_units, number

# Green in the band; orange above and purple below, darker with each doubling of the distance, and
# light enough for black numbers on all.
STEPS = (1.0, 2.0, 4.0, 8.0)
ABOVE, BELOW, INSIDE = (
    ("#fde0b5", "#f7b765", "#e58a2c", "#c96a12"),
    ("#e6e0f2", "#c9bce3", "#ad98d4", "#8f70c4"),
    "#8fd0b0",
)
MAX_NUMBERED = 30
"""With more classes the lines are half as high, without a number in each cell."""
_AROUND, _BESIDE, COLUMN = 170, 260, 42
"""Pixels for the margins of a heat map and the models' names above it, for the names beside it, and
for a number in a cell.
"""


def step(units: float) -> int:
    """0 in the band; ±1 … ±4 outside it, one more for each doubling of the distance."""
    size = sum(abs(units) > limit + 1e-9 for limit in STEPS)
    return size if units > 0 else -size


def colour(units: float) -> str:
    """The colour of a gap in halves of the band."""
    s = step(units)
    return INSIDE if s == 0 else ABOVE[s - 1] if s > 0 else BELOW[-s - 1]


def has_bands(records: Sequence[RunRecord]) -> bool:
    """Whether any score stands in a band: two retrained models, three for scores that compare with
    them.
    """
    return any(cell.units is not None for row in build(records).rows for cell in row.cells.values())


def heatmap(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by models, coloured by the gap to the retrained models in halves of their band."""
    table = build(records)
    rows = [row for row in table.rows if row.cells]
    columns = [c.name for c in table.columns if "@" not in c.name]
    columns = [
        c for c in columns if any(r.cells[c].units is not None for r in rows if c in r.cells)
    ]
    if not columns:
        raise RecordError("no score has a band; it takes two or three retrained models")
    columns.sort(key=lambda c: GROUPS.index(group(c)))
    steps: list[list[int | None]] = [[None] * len(rows) for _ in columns]
    gaps = [[""] * len(rows) for _ in columns]
    hover = [[["", ""] for _ in rows] for _ in columns]
    for y, column in enumerate(columns):
        for x, row in enumerate(rows):
            cell = row.cells.get(column)
            if cell is not None and cell.units is not None and cell.value is not None:
                steps[y][x], gaps[y][x] = step(cell.units), html.escape(in_units(cell.units))
                hover[y][x] = [
                    f"{shown(row.model)}, {shown(label(column), 60)}: {number(cell.value)}",
                    cell.verdict,
                ]
    scale = [*reversed(BELOW), INSIDE, *ABOVE]
    cells = go.Heatmap(
        z=steps,
        text=gaps,
        customdata=hover,
        zmin=-4.5,
        zmax=4.5,
        showscale=False,
        xgap=1,
        ygap=1,
        colorscale=[
            (edge, shade) for i, shade in enumerate(scale) for edge in (i / 9, (i + 1) / 9)
        ],
        texttemplate="%{text}",
        textfont={"size": 11, "color": "#111111"},
        hovertemplate="%{customdata[0]}, %{text} halves of the band: %{customdata[1]}<extra></extra>",
    )
    return named(
        go.Figure(cells), [row.model for row in rows], [shown(label(c), 34) for c in columns]
    )


def relearning(records: Sequence[RunRecord]) -> go.Figure:
    """Accuracy on the forgotten over relearning steps: a panel per number of samples, a line per
    model.
    """
    found = series.having(records, "relearning")
    curves = {r.name: series.relearning(r) for r in found}
    budgets = sorted({b for c in curves.values() for b in c.curves}, key=series.natural)
    looks, fig = styles(records), go.Figure()
    listed: set[str] = set()
    for i, budget in enumerate(budgets):
        for name, curve in curves.items():
            if budget in curve.curves:
                fig.add_scatter(
                    x=curve.steps,
                    y=curve.curves[budget],
                    xaxis=axis("x", i),
                    yaxis=axis("y", i),
                    mode="lines+markers",
                    name=shown(name),
                    legendgroup=name,
                    showlegend=name not in listed,
                    hovertemplate="step %{x}: %{y:.3f}",
                    line={"color": looks[name].colour, "dash": looks[name].dash, "width": 2},
                    marker={"color": looks[name].colour, "symbol": looks[name].symbol, "size": 6},
                )
                listed.add(name)
        fig.update_layout(
            {key("x", i): {"title": {"text": "steps"}}, key("y", i): {"range": [-0.02, 1.02]}}
        )
    dress(fig, height=400)
    title_panels(fig, [_from(budget) for budget in budgets])
    return lay_out(fig, Panels(len(budgets), 240, entries=len(found)), wide=min(len(budgets), 2))


def _from(budget: str) -> str:
    if budget == "0":
        return "from kept samples alone"
    return (
        f"from {budget} forgotten samples"
        if budget.isdecimal()
        else f"from {shown(budget)} of them"
    )


def has_layers(records: Sequence[RunRecord]) -> bool:
    """Whether anything was measured at further layers."""
    return any("@" in s.name and s.value is not None for r in records for s in r.scores)


def layers(records: Sequence[RunRecord]) -> go.Figure:
    """A panel per score that was measured at further layers, a line per model over the layers and
    the headline features.
    """
    names = list(
        dict.fromkeys(
            s.name for r in records for s in r.scores if "@" in s.name and s.value is not None
        )
    )
    if not names:
        raise RecordError("no record has scores at further layers")
    stems = list(dict.fromkeys(n.partition("@")[0] for n in names))
    places = list(dict.fromkeys(n.partition("@")[2] for n in names))
    looks, fig = styles(records), go.Figure()
    listed: set[str] = set()
    for i, stem in enumerate(stems):
        for record in records:
            values: dict[str, Any] = {s.name: s.value for s in record.scores}
            line = [*(values.get(f"{stem}@{place}") for place in places), values.get(stem)]
            if all(value is None for value in line):
                continue
            # Numbers in the place of the layers' names, which plotly would take for numbers or
            # dates where they look like them.
            fig.add_scatter(
                x=list(range(len(line))),
                y=line,
                xaxis=axis("x", i),
                yaxis=axis("y", i),
                mode="lines+markers",
                name=shown(record.name),
                legendgroup=record.name,
                showlegend=record.name not in listed,
                hovertemplate="%{text}: %{y:.3f}",
                text=[*(shown(p, 60) for p in places), "head's input"],
                line={"color": looks[record.name].colour, "dash": looks[record.name].dash},
                marker={"color": looks[record.name].colour, "symbol": looks[record.name].symbol},
            )
            listed.add(record.name)
        ticks = {
            "tickvals": list(range(len(places) + 1)),
            "ticktext": [*(shown(p, 14) for p in places), "head's input"],
        }
        fig.update_layout(
            {
                key("x", i): {**ticks, "tickangle": 30, "automargin": True},
                key("y", i): {"automargin": True},
            }
        )
    dress(fig, height=400)
    title_panels(fig, [shown(label(stem), 40) for stem in stems])
    return lay_out(fig, Panels(len(stems), 180, entries=len(listed), gap=120), wide=3)


def classes(records: Sequence[RunRecord]) -> go.Figure:
    """Held-out accuracy of each class, a row per class and a column per model."""
    found = series.having(records, "per_class")
    tables = [series.class_accuracy(r) for r in found]
    names = list(dict.fromkeys(name for t in tables for name in t))
    hover = [[f"{shown(r.name)}, class {shown(name)}" for r in found] for name in names]
    cells = go.Heatmap(
        z=[[t.get(name) for t in tables] for name in names],
        text=hover,
        zmin=0,
        zmax=1,
        colorscale=[(0, "#ffffff"), (1, GREEN)],
        showscale=False,
        xgap=1,
        ygap=1,
        texttemplate="%{z:.2f}" if len(names) <= MAX_NUMBERED else "",
        textfont={"size": 11, "color": "#111111"},
        hovertemplate="%{text}: %{z:.3f}<extra></extra>",
    )
    height = 20 if len(names) <= MAX_NUMBERED else 10
    return named(
        go.Figure(cells),
        [r.name for r in found],
        [f"class {shown(n)}" for n in names],
        height=height,
    )


def named(
    fig: go.Figure,
    models: Sequence[str],
    lines: Sequence[str],
    *,
    height: int = 20,
    column: int = COLUMN,
    around: int = _AROUND,
) -> go.Figure:
    """Names beside the lines, of `height` pixels each, and above the columns, of at least `column`
    pixels, of a heat map.

    around: pixels for its margins and the names above.

    Its axes count: two names may be the same once they are cut, and plotly would draw the one over
    the other.
    """
    every = 1 if height >= 16 else 2
    stand(
        dress(fig, height=400),
        around + height * len(lines),
        least_width=_BESIDE + column * len(models),
    )
    fig.update_yaxes(
        tickvals=list(range(0, len(lines), every)),
        ticktext=list(lines[::every]),
        autorange="reversed",
        automargin=True,
    )
    names = [shown(m, 16) for m in models]
    return fig.update_xaxes(
        tickvals=list(range(len(models))), ticktext=names, side="top", automargin=True
    )
