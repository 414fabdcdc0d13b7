"""The report's figures. Each takes evaluate records and draws what they hold; nothing is measured
again.

Errors: RecordError when no record has the series, or one is malformed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.style import (
    FAINT,
    GREEN,
    GREY,
    VERMILLION,
    Panels,
    axis,
    class_look,
    dress,
    key,
    lay_out,
    shown,
    styles,
    title_panels,
    with_choices,
)
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.table import Table, build, number

_MAX_MAPS = 6


def has_scores(records: Sequence[RunRecord]) -> bool:
    """Whether any score has a value."""
    return any(s.value is not None for r in records for s in r.scores)


def metric_dots(records: Sequence[RunRecord]) -> go.Figure:
    """A panel per headline score, a dot per model with its interval; line and band: mean and band
    of the retrained models.
    """
    table = build(records)
    cells = [item for row in table.rows for item in row.cells.items()]
    columns = [
        c.name
        for c in table.columns
        if any(n == c.name and cell.value is not None for n, cell in cells)
    ]
    columns = [c for c in columns if c in HEADLINE] or columns
    if not columns:
        raise RecordError("no record has a score with a value")
    looks, fig = styles(records), go.Figure()
    for i, name in enumerate(columns):
        _add_reference(fig, table, name, i)
        for y, row in enumerate(table.rows):
            cell = row.cells.get(name)
            if cell is None or cell.value is None:
                continue
            low, high = (
                0.0 if end is None else abs(end - cell.value) for end in (cell.low, cell.high)
            )
            fig.add_scatter(
                x=[cell.value],
                y=[y],
                xaxis=axis("x", i),
                yaxis=axis("y", i),
                mode="markers",
                showlegend=False,
                marker={
                    "color": looks[row.model].colour,
                    "symbol": looks[row.model].symbol,
                    "size": 10,
                },
                error_x={
                    "array": [high],
                    "arrayminus": [low],
                    "thickness": 1.2,
                    "width": 3,
                    "visible": low + high > 0,
                },
                hovertemplate=f"{shown(row.model)}: {number(cell.value)}<extra>{shown(label(name))}</extra>",
            )
        labels = {
            "tickvals": list(range(len(table.rows))),
            "ticktext": [shown(r.model, 18) for r in table.rows],
        }
        ends = {"range": [len(table.rows) - 0.5, -0.5], "automargin": True}
        fig.update_layout({key("y", i): {**labels, **ends}, key("x", i): {"nticks": 5}})
    dress(fig, height=400)
    title_panels(fig, [shown(label(name), 34) for name in columns])
    return lay_out(fig, Panels(len(columns), 30 + 22 * len(table.rows), shared_labels=True), wide=3)


def da_curves(records: Sequence[RunRecord]) -> go.Figure:
    """DA over k, one line per model; a vertical line marks the table's k. Form and centering are
    the choices in layout.meta.
    """
    found = series.having(records, "da_curve")
    curves = {r.name: series.da_curve(r) for r in found}
    forms = [form for form in series.DA_FORMS if any(form in c.forms for c in curves.values())]
    looks, fig = styles(records), go.Figure()
    drawn = []
    for form in forms:
        for name, curve in curves.items():
            if form in curve.forms:
                drawn.append(form)
                fig.add_scatter(
                    x=curve.k,
                    y=curve.forms[form],
                    name=shown(name),
                    mode="lines",
                    visible=form == forms[0],
                    line={"color": looks[name].colour, "dash": looks[name].dash, "width": 2},
                    hovertemplate="k = %{x}: %{y:.3f}",
                )
    dress(fig, height=400)
    for k in sorted({c.headline_k for c in curves.values() if c.headline_k is not None}):
        mark = {"color": GREY, "dash": "dot", "width": 1.5}
        fig.add_shape(type="line", x0=k, x1=k, y0=0, y1=1, yref="paper", line=mark)
        place = {
            "x": math.log10(k),
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
        }
        fig.add_annotation(text=f"k = {k}", **place)
    fig.update_layout(hovermode="x unified")
    fig.update_xaxes(type="log", title_text="k, the number of directions (logarithmic)")
    fig.update_yaxes(title_text="DA", range=[0, 1.03])
    lay_out(fig, Panels(1, 280, entries=len(found)), wide=1)
    return with_choices(fig, {series.DA_FORMS[form]: [d == form for d in drawn] for form in forms})


def feature_maps(
    records: Sequence[RunRecord], models: Sequence[str] | None = None, *, kind: str = "pca"
) -> go.Figure:
    """Held-out samples in two dimensions, a panel per model; × marks samples of what is forgotten.

    models: names in the order wanted; by default the original, one retrained model and the others,
    six at most. kind: one of series.MAPS.
    """
    picked = chosen(series.having(records, kind), models)
    maps = [series.feature_map(r, kind) for r in picked]
    classes = sorted(
        {c for m in maps for c, f in zip(m.label, m.forget, strict=True) if not f},
        key=series.natural,
    )
    fig = go.Figure()
    listed: set[str] = set()
    for i, m in enumerate(maps):
        for made in _map_traces(m, classes):
            fig.add_scatter(
                **made,
                xaxis=axis("x", i),
                yaxis=axis("y", i),
                showlegend=made["name"] not in listed,
            )
            listed.add(made["name"])
        bare = {"showticklabels": False, "ticks": ""}
        fig.update_layout({key("x", i): bare, key("y", i): bare})
        # Only principal directions have a share of the variance; the axes of other maps mean
        # nothing by themselves.
        for letter, d, share in zip("xy", (1, 2), m.explained or (), strict=False):
            fig.update_layout(
                {key(letter, i): {"title": {"text": f"direction {d} ({share:.0%} of variance)"}}}
            )
    dress(fig, height=400)
    title_panels(fig, [shown(r.name) for r in picked])
    return lay_out(fig, Panels(len(picked), 280, entries=len(listed)), wide=3)


def spectra(records: Sequence[RunRecord]) -> go.Figure:
    """Eigenvalues of the retain and of the forget features as shares of their sum, largest first,
    on a log scale.
    """
    found = series.having(records, "spectrum")
    looks, fig = styles(records), go.Figure()
    for r in found:
        both = series.spectrum(r)
        for i, values in enumerate((both.retain, both.forget)):
            # What is zero to rounding has no place on a log scale.
            kept = [v for v in values if v > 0]
            fig.add_scatter(
                x=list(range(1, len(kept) + 1)),
                y=kept,
                xaxis=axis("x", i),
                yaxis=axis("y", i),
                mode="lines",
                name=shown(r.name),
                legendgroup=r.name,
                showlegend=i == 0,
                hovertemplate="%{x}: %{y:.2e}",
                line={"color": looks[r.name].colour, "dash": looks[r.name].dash, "width": 2},
            )
    log, rank = {"type": "log", "exponentformat": "power", "nticks": 8}, {"title": {"text": "rank"}}
    fig.update_layout(yaxis=log, yaxis2=log, xaxis=rank, xaxis2=rank)
    dress(fig, height=400)
    title_panels(fig, ["kept samples", "forgotten samples"])
    return lay_out(fig, Panels(2, 300, entries=len(found)), wide=2)


def training_trace(records: Sequence[RunRecord]) -> go.Figure:
    """Training epochs in order, one line per model: a panel per phase for its loss, and one each
    for DA and the accuracies after it.
    """
    found = series.having(records, "trace")
    traces = {r.name: series.trace(r) for r in found}
    panels: list[tuple[str, dict[str, dict[int, float]]]] = []
    for phase in dict.fromkeys(p.phase for t in traces.values() for p in t):
        panels.append(
            (
                f"loss: {shown(phase)}",
                {
                    n: {j + 1: p.loss for j, p in enumerate(t) if p.phase == phase}
                    for n, t in traces.items()
                },
            )
        )
    for glance, title in series.GLANCES.items():
        panels.append(
            (
                title,
                {
                    n: {j + 1: p.seen[glance] for j, p in enumerate(t) if glance in p.seen}
                    for n, t in traces.items()
                },
            )
        )
    panels = [(title, lines) for title, lines in panels if any(lines.values())]
    looks, fig = styles(records), go.Figure()
    listed: set[str] = set()
    # Without it plotly also marks halves of epochs.
    whole = {"dtick": 1} if max(map(len, traces.values())) <= 10 else {}
    for i, (_, lines) in enumerate(panels):
        for name, line in lines.items():
            if not line:
                continue
            fig.add_scatter(
                x=list(line),
                y=list(line.values()),
                xaxis=axis("x", i),
                yaxis=axis("y", i),
                mode="lines+markers",
                name=shown(name),
                legendgroup=name,
                showlegend=name not in listed,
                marker={"color": looks[name].colour, "symbol": looks[name].symbol, "size": 7},
                line={"color": looks[name].colour, "dash": looks[name].dash},
                hovertemplate="%{x}: %{y:.3g}",
            )
            listed.add(name)
        fig.update_layout(
            {
                key("x", i): {"title": {"text": "training epoch"}, **whole},
                key("y", i): {"automargin": True},
            }
        )
    dress(fig, height=400)
    title_panels(fig, [title for title, _ in panels])
    return lay_out(fig, Panels(len(panels), 260, entries=len(found)), wide=min(len(panels), 3))


def _add_reference(fig: go.Figure, table: Table, name: str, panel: int) -> None:
    if name not in table.reference:
        return
    reference = table.reference[name]
    refs = {
        "xref": axis("x", panel),
        "yref": f"{axis('y', panel)} domain",
        "y0": 0,
        "y1": 1,
        "layer": "below",
    }
    if reference.band is not None:
        low, high = reference.band.within(next(c.range for c in table.columns if c.name == name))
        fig.add_shape(type="rect", x0=low, x1=high, fillcolor=FAINT, line={"width": 0}, **refs)
    fig.add_shape(
        type="line",
        x0=reference.mean,
        x1=reference.mean,
        line={"color": GREEN, "width": 1.5},
        **refs,
    )


def chosen(records: Sequence[RunRecord], models: Sequence[str] | None = None) -> list[RunRecord]:
    """Those of these names, or the original, one retrained model and the others, six at most.
    Errors: RecordError for an unknown name.
    """
    by_name = {r.name: r for r in records}
    if models is not None:
        missing = [m for m in models if m not in by_name]
        if missing:
            raise RecordError(
                f"no feature map of model {missing[0]!r}; there are {', '.join(by_name)}"
            )
        return [by_name[m] for m in models]
    original, oracle = (
        [r for r in records if r.role == role][:1] for role in ("original", "oracle")
    )
    others = [r for r in records if r.role in ("unlearned", "control")]
    return [*original, *oracle, *others][:_MAX_MAPS]


def _map_traces(m: series.FeatureMap, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A trace per kept class with samples here, then the forgotten ones on top."""
    groups: list[tuple[str, list[int], dict[str, Any]]] = []
    for c in classes:
        rows = [j for j, f in enumerate(m.forget) if not f and m.label[j] == c]
        groups.append((f"class {shown(c)}", rows, class_look(classes.index(c))))
    marked = {"color": VERMILLION, "symbol": "x", "size": 7, "opacity": 0.95}
    groups.append(("forgotten", [j for j, f in enumerate(m.forget) if f], marked))
    return [
        {
            "x": [_short(m.x[j]) for j in rows],
            "y": [_short(m.y[j]) for j in rows],
            "mode": "markers",
            "marker": look,
            "name": name,
            "legendgroup": name,
            "text": [shown(m.id[j], 60) for j in rows],
            # The name of a kept class's trace says the class of all its samples.
            **({"customdata": [shown(m.label[j]) for j in rows]} if look is marked else {}),
            "hovertemplate": "id %{text}" + ("<br>class %{customdata}" if look is marked else ""),
        }
        for name, rows, look in groups
        if rows
    ]


def _short(place: float) -> float:
    """Four significant digits: finer than a pixel of a panel, and a third less to store for each of
    many samples.
    """
    return float(f"{place:.4g}")
