"""Figures of bands, relearning, layers and classes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.panels import Panels, heat_cells, heat_map
from eigenforget.report.figures.style import ABOVE, BELOW, GREEN, INSIDE, band_step, shown, styles
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import build, in_units, number

_MAX_NUMBERED = 30  # with more classes the lines are half as high, without a number in each cell
_HEAD = "head's input"


def has_bands(records: Sequence[RunRecord]) -> bool:
    """Whether any score stands in a band.

    It takes two retrained models, or three for scores that compare with them.
    """
    return any(cell.units is not None for row in build(records).rows for cell in row.cells.values())


def bands_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by models, coloured by the gap to the retrained models in half-widths of their band.

    Raises:
        RecordError: No score has a band.
    """
    table = build(records)
    rows = [r for r in table.rows if r.cells and (table.shows_oracles or r.role != "oracle")]
    known = {n for row in rows for n, cell in row.cells.items() if cell.units is not None}
    columns = [c.name for c in table.columns if "@" not in c.name and c.name in known]
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
                steps[y][x], gaps[y][x] = band_step(cell.units), html.escape(in_units(cell.units))
                what = f"{shown(row.model)}, {shown(label(column), 60)}: {number(cell.value)}"
                hover[y][x] = [what, cell.verdict]
    scale = [*reversed(BELOW), INSIDE, *ABOVE]
    edges = [(edge, shade) for i, shade in enumerate(scale) for edge in (i / 9, (i + 1) / 9)]
    trace = heat_cells(
        steps,
        (-4.5, 4.5),
        text=gaps,
        customdata=hover,
        colorscale=edges,
        texttemplate="%{text}",
        hovertemplate="%{customdata[0]}, %{text} half-widths: %{customdata[1]}<extra></extra>",
    )
    return heat_map(trace, [r.model for r in rows], [shown(label(c), 34) for c in columns])


def relearning_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Forget accuracy over relearning steps: a panel for each number of samples, a line per model.

    Raises:
        RecordError: No record has the series relearning, or one is malformed.
    """
    curves = {r.name: series.read_relearning(r) for r in series.having(records, "relearning")}
    budgets = sorted({b for c in curves.values() for b in c.curves}, key=series.natural)
    looks, titles = styles(records), [_budget(budget) for budget in budgets]
    panels = Panels(titles, height=240, columns=2)
    for i, budget in enumerate(budgets):
        for name, curve in ((n, c) for n, c in curves.items() if budget in c.curves):
            points, look = (curve.steps, curve.curves[budget]), looks[name]
            hover = "step %{x}: %{y:.3f}"
            panels.model(i, name, points, hover, line=look.line(), marker=look.marker(6))
        panels.axes(i, {"title": {"text": "steps"}}, {"range": [-0.02, 1.02]})
    return panels.figure()


def has_layers(records: Sequence[RunRecord]) -> bool:
    """Whether anything was measured at further layers."""
    return bool(_at_layers(records))


def layers_figure(records: Sequence[RunRecord]) -> go.Figure:
    """A panel for each score at further layers, a line per model up to the input of the head.

    Raises:
        RecordError: Nothing was measured at further layers.
    """
    names = _at_layers(records)
    if not names:
        raise RecordError("no record has scores at further layers")
    stems, layers = (list(dict.fromkeys(n.partition("@")[i] for n in names)) for i in (0, 2))
    looks, titles = styles(records), [shown(label(stem), 40) for stem in stems]
    panels = Panels(titles, height=180, columns=3, gap=120)
    for i, stem in enumerate(stems):
        for record in records:
            values: dict[str, Any] = {s.name: s.value for s in record.scores}
            line = [*(values.get(f"{stem}@{layer}") for layer in layers), values.get(stem)]
            if all(value is None for value in line):
                continue
            # Numbers in the place of the layers' names, which plotly would take for numbers or
            # dates where they look like them.
            text, look = [*(shown(layer, 60) for layer in layers), _HEAD], looks[record.name]
            own: dict[str, Any] = {"line": look.line(None), "marker": look.marker(), "text": text}
            panels.model(i, record.name, (range(len(line)), line), "%{text}: %{y:.3f}", **own)
        names = [*(shown(layer, 14) for layer in layers), _HEAD]
        ticks = {"tickvals": list(range(len(names))), "ticktext": names, "tickangle": 30}
        panels.axes(i, {**ticks, "automargin": True}, {"automargin": True})
    return panels.figure()


def classes_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Held-out accuracy of each class, a line for each class and a column for each model.

    Raises:
        RecordError: No record has the series per_class, or one is malformed.
    """
    found = series.having(records, "per_class")
    tables = [series.read_class_accuracy(r) for r in found]
    names = list(dict.fromkeys(name for t in tables for name in t))
    few = len(names) <= _MAX_NUMBERED
    trace = heat_cells(
        [[t.get(name) for t in tables] for name in names],
        (0, 1),
        text=[[f"{shown(r.name)}, class {shown(name)}" for r in found] for name in names],
        colorscale=[(0, "#ffffff"), (1, GREEN)],
        texttemplate="%{z:.2f}" if few else "",
        hovertemplate="%{text}: %{z:.3f}<extra></extra>",
    )
    lines = [f"class {shown(n)}" for n in names]
    return heat_map(trace, [r.name for r in found], lines, line_height=20 if few else 10)


def _at_layers(records: Sequence[RunRecord]) -> list[str]:
    """The names of scores with a value at a further layer, each once."""
    scores = (s for r in records for s in r.scores)
    return list(dict.fromkeys(s.name for s in scores if "@" in s.name and s.value is not None))


def _budget(budget: str) -> str:
    if budget == "0":
        return "from the retain set alone"
    return f"from {shown(budget)} forget samples"


BANDS_CHART = Chart(
    "bands",
    bands_figure,
    "Every score in the retrained models' band",
    "Each cell says how far the score lies from the mean of the retrained models, in half-widths of"
    " their band: within ±1 it is what one more retrained model may have. Green: in the band."
    " Orange: above it, purple: below it. Scores without a band are left out.",
    takes=has_bands,
)
RELEARNING_CHART = Chart(
    "relearning",
    relearning_figure,
    "How fast the forget set is learned again",
    "Forget accuracy while each model trains on a few forget samples (0: on the retain set alone)."
    " The original and the retrained models are the two ends of the scale: a model that relearns"
    " faster than the retrained ones has not forgotten everything.",
    series="relearning",
)
LAYERS_CHART = Chart(
    "layers",
    layers_figure,
    "Layer by layer",
    "The scores that read features, measured at each layer that was asked for. Where the lines of a"
    " model leave those of the retrained models, that layer still tells the forget set apart, or no"
    " longer does.",
    takes=has_layers,
)
CLASSES_CHART = Chart(
    "classes",
    classes_figure,
    "Accuracy by class",
    "On held-out samples, one line for each class and one column for each model.",
    series="per_class",
)
