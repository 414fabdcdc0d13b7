"""Figures of bands, relearning, layers and classes. Each takes evaluate records and draws what they hold.

Errors: RecordError when no record has what the figure needs, or a series is malformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RecordError, RunRecord
from eigenforget.report import series
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.style import GREEN, Panels, axis, dress, key, lay_out, shown, styles, title_panels
from eigenforget.report.table import build, in_units, number

# Green in the band; orange above and purple below, darker with each doubling of the distance (ColorBrewer's PuOr around Okabe–Ito's green).
STEPS = (1.0, 2.0, 4.0, 8.0)
ABOVE, BELOW, INSIDE = ("#fde0b5", "#f7b765", "#e58a2c", "#b35806"), ("#dcd6ea", "#b9aed6", "#8f7fbb", "#542788"), "#8fd0b0"


def step(units: float) -> int:
    """0 in the band; ±1 … ±4 outside it, one more for each doubling of the distance."""
    size = sum(abs(units) > limit + 1e-9 for limit in STEPS)
    return size if units > 0 else -size


def colour(units: float) -> str:
    """The colour of a gap in halves of the band."""
    s = step(units)
    return INSIDE if s == 0 else ABOVE[s - 1] if s > 0 else BELOW[-s - 1]


def has_bands(records: Sequence[RunRecord]) -> bool:
    """Whether any score stands in a band: two retrained models, or three where only these were measured."""
    return any(cell.units is not None for row in build(records).rows for cell in row.cells.values())


def heatmap(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by models, coloured by the gap to the retrained models in halves of their band."""
    table = build(records)
    columns = [c.name for c in table.columns if "@" not in c.name and c.name in table.reference]
    columns = [c for c in columns if any(r.cells[c].units is not None for r in table.rows if c in r.cells)]
    if not columns:
        raise RecordError("no score has a band; it takes two retrained models")
    columns.sort(key=lambda c: GROUPS.index(group(c)))
    rows = [row for row in table.rows if row.cells]
    cells = [[row.cells.get(c) for row in rows] for c in columns]
    found = [[None if cell is None or cell.units is None or cell.value is None else cell for cell in line] for line in cells]
    scale = [*reversed(BELOW), INSIDE, *ABOVE]
    fig = go.Figure(go.Heatmap(
        z=[[None if c is None else step(c.units or 0.0) for c in line] for line in found],
        text=[["" if c is None else in_units(c.units or 0.0) for c in line] for line in found],
        customdata=[[["", ""] if c is None else [number(c.value or 0.0), c.verdict] for c in line] for line in found],
        x=[shown(row.model, 16) for row in rows], y=[shown(label(c), 30) for c in columns], zmin=-4.5, zmax=4.5, showscale=False,
        colorscale=[(edge, shade) for i, shade in enumerate(scale) for edge in (i / 9, (i + 1) / 9)],
        texttemplate="%{text}", textfont={"size": 11, "color": "#111111"}, xgap=1, ygap=1,
        hovertemplate="%{x}, %{y}: %{customdata[0]}, %{text} halves of the band: %{customdata[1]}<extra></extra>",
    ))  # fmt: skip
    dress(fig, height=90 + 20 * len(columns))
    fig.update_yaxes(autorange="reversed", automargin=True)
    fig.update_xaxes(side="top", automargin=True)
    return fig


def relearning(records: Sequence[RunRecord]) -> go.Figure:
    """Accuracy on the forgotten over relearning steps: a panel per number of samples, a line per model."""
    found = series.having(records, "relearning")
    curves = {r.name: series.relearning(r) for r in found}
    budgets = list(dict.fromkeys(b for c in curves.values() for b in c.curves))
    looks, fig = styles(records), go.Figure()
    for i, budget in enumerate(budgets):
        for name, curve in curves.items():
            if budget in curve.curves:
                fig.add_scatter(
                    x=curve.steps, y=curve.curves[budget], xaxis=axis("x", i), yaxis=axis("y", i), mode="lines+markers", name=shown(name),
                    legendgroup=name, showlegend=i == 0, line={"color": looks[name].colour, "dash": looks[name].dash, "width": 2},
                    marker={"color": looks[name].colour, "symbol": looks[name].symbol, "size": 6}, hovertemplate="step %{x}: %{y:.3f}",
                )  # fmt: skip
        fig.update_layout({key("x", i): {"title": {"text": "steps"}}, key("y", i): {"range": [-0.02, 1.02]}})
    dress(fig, height=400)
    title_panels(fig, [f"from {b} forgotten samples" if b.isdecimal() else f"from {b} of them" for b in budgets])
    return lay_out(fig, Panels(len(budgets), 240, entries=len(found)), wide=min(len(budgets), 2))


def has_layers(records: Sequence[RunRecord]) -> bool:
    """Whether anything was measured at further layers."""
    return any("@" in s.name and s.value is not None for r in records for s in r.scores)


def layers(records: Sequence[RunRecord]) -> go.Figure:
    """A panel per score that was measured at further layers, a line per model over the layers and the headline features."""
    names = list(dict.fromkeys(s.name for r in records for s in r.scores if "@" in s.name and s.value is not None))
    if not names:
        raise RecordError("no record has scores at further layers")
    stems = list(dict.fromkeys(n.partition("@")[0] for n in names))
    places = list(dict.fromkeys(n.partition("@")[2] for n in names))
    looks, fig = styles(records), go.Figure()
    for i, stem in enumerate(stems):
        for record in records:
            values: dict[str, Any] = {s.name: s.value for s in record.scores}
            line = [values.get(f"{stem}@{place}") for place in places] + [values.get(stem)]
            fig.add_scatter(
                x=[shown(p, 12) for p in places] + ["head's input"], y=line, xaxis=axis("x", i), yaxis=axis("y", i), mode="lines+markers",
                name=shown(record.name), legendgroup=record.name, showlegend=i == 0, hovertemplate="%{x}: %{y:.3f}",
                line={"color": looks[record.name].colour, "dash": looks[record.name].dash},
                marker={"color": looks[record.name].colour, "symbol": looks[record.name].symbol},
            )  # fmt: skip
    dress(fig, height=400)
    title_panels(fig, [shown(label(stem), 40) for stem in stems])
    return lay_out(fig, Panels(len(stems), 180, entries=len(records)), wide=3)


def classes(records: Sequence[RunRecord]) -> go.Figure:
    """Held-out accuracy of each class, a row per class and a column per model."""
    found = series.having(records, "per_class")
    tables = [series.class_accuracy(r) for r in found]
    names = list(dict.fromkeys(name for t in tables for name in t))
    fig = go.Figure(go.Heatmap(
        z=[[t.get(name) for t in tables] for name in names], x=[shown(r.name, 16) for r in found], y=[f"class {shown(n)}" for n in names],
        zmin=0, zmax=1, colorscale=[(0, "#ffffff"), (1, GREEN)], showscale=False, xgap=1, ygap=1,
        texttemplate="%{z:.2f}" if len(names) <= 30 else "", textfont={"size": 11, "color": "#111111"},
        hovertemplate="%{x}, %{y}: %{z:.3f}<extra></extra>",
    ))  # fmt: skip
    dress(fig, height=90 + (20 if len(names) <= 30 else 10) * len(names))
    fig.update_yaxes(autorange="reversed", automargin=True)
    fig.update_xaxes(side="top", automargin=True)
    return fig
