"""Figures of scores, alignment, features and training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.style import FAINT, GREEN, VERMILLION, class_marker, shown, styles
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.table import Table, build, number

_MAX_MAPS = 6
_FORGET = "forget set"


def has_scores(records: Sequence[RunRecord]) -> bool:
    """Whether any score has a value."""
    return any(s.value is not None for r in records for s in r.scores)


def scores_figure(records: Sequence[RunRecord]) -> go.Figure:
    """A panel for each headline score, a dot with its interval for each model.

    Line and area: mean and band of the retrained models.

    Raises:
        RecordError: No score has a value.
    """
    table = build(records)
    measured = {n for row in table.rows for n, cell in row.cells.items() if cell.value is not None}
    columns = [c.name for c in table.columns if c.name in measured]
    columns = [c for c in columns if c in HEADLINE] or columns
    if not columns:
        raise RecordError("no record has a score with a value")
    looks, rows = styles(records), table.rows
    titles, height = [shown(label(name), 34) for name in columns], 30 + 22 * len(rows)
    panels = Panels(titles, height=height, columns=3, shared_labels=True)
    for i, name in enumerate(columns):
        _draw_band(panels, i, table, name)
        for y, row in enumerate(rows):
            cell = row.cells.get(name)
            if cell is None or cell.value is None:
                continue
            low, high = (
                0.0 if end is None else abs(end - cell.value) for end in (cell.low, cell.high)
            )
            bars = {"array": [high], "arrayminus": [low], "thickness": 1.2, "width": 3}
            panels.add(
                i,
                x=[cell.value],
                y=[y],
                mode="markers",
                marker=looks[row.model].marker(10),
                error_x={**bars, "visible": low + high > 0},
                hovertemplate=f"{shown(row.model)}: {number(cell.value)}"
                f"<extra>{shown(label(name))}</extra>",
            )
        names = [shown(r.model, 18) for r in rows]
        labels = {"tickvals": list(range(len(rows))), "ticktext": names, "automargin": True}
        panels.axes(i, {"nticks": 5}, {**labels, "range": [len(rows) - 0.5, -0.5]})
    return panels.figure()


def da_figure(records: Sequence[RunRecord]) -> go.Figure:
    """DA over k, a line for each model; a dotted line marks the table's k.

    Raises:
        RecordError: No record has the series da_curve, or one is malformed.
    """
    curves = {r.name: series.read_da_curve(r) for r in series.having(records, "da_curve")}
    forms = {
        form: words
        for form, words in series.DA_FORMS.items()
        if any(form in c.forms for c in curves.values())
    }
    looks, panels = styles(records), Panels([""], height=280, columns=1, choices=forms)
    for form in forms:
        for name, curve in ((n, c) for n, c in curves.items() if form in c.forms):
            points, hover = (curve.k, curve.forms[form]), "k = %{x}: %{y:.3f}"
            panels.model(0, name, points, hover, choice=form, line=looks[name].line())
    for k in sorted({c.headline_k for c in curves.values() if c.headline_k is not None}):
        panels.mark(0, k, f"k = {k}")
    k_axis = {"type": "log", "title": {"text": "k, the number of directions (logarithmic)"}}
    panels.axes(0, k_axis, {"title": {"text": "DA"}, "range": [0, 1.03]})
    return panels.figure().update_layout(hovermode="x unified")


def maps_figure(
    records: Sequence[RunRecord], models: Sequence[str] | None = None, *, kind: str = "pca"
) -> go.Figure:
    """Held-out samples in two dimensions, a panel for each model; × marks the forget set's classes.

    Args:
        records: Evaluate records.
        models: Names in the order wanted; None for those of `shown_models`.
        kind: The series: pca, tsne or umap.

    Raises:
        RecordError: No record has the series, one is malformed, or a model has none.
    """
    picked = shown_models(series.having(records, kind), models)
    maps = [series.read_feature_map(r, kind) for r in picked]
    classes = sorted(
        {c for m in maps for c, f in zip(m.label, m.forget, strict=True) if not f},
        key=series.natural,
    )
    panels = Panels([shown(r.name) for r in picked], height=280, columns=3)
    for i, m in enumerate(maps):
        for trace in _map_traces(m, classes):
            panels.add(i, **trace)
        bare: dict[str, Any] = {"showticklabels": False, "ticks": ""}
        # Only principal directions have a share of the variance; the axes of other maps mean
        # nothing by themselves.
        titles = [
            {"title": {"text": f"direction {d} ({share:.0%} of variance)"}}
            for d, share in enumerate(m.explained or (), start=1)
        ] or [{}, {}]
        panels.axes(i, {**bare, **titles[0]}, {**bare, **titles[1]})
    return panels.figure()


def spectra_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Eigenvalues of retain and forget features as shares of their sum, largest first.

    Raises:
        RecordError: No record has the series spectrum, or one is malformed.
    """
    looks, panels = styles(records), Panels(["retain set", _FORGET], height=300, columns=2)
    for r in series.having(records, "spectrum"):
        for i, values in enumerate(series.read_spectrum(r)):
            # What is zero to rounding has no place on a logarithmic scale.
            positive = [v for v in values if v > 0]
            points = range(1, len(positive) + 1), positive
            panels.model(i, r.name, points, "%{x}: %{y:.2e}", line=looks[r.name].line())
    for i in range(2):
        log = {"type": "log", "exponentformat": "power", "nticks": 8}
        panels.axes(i, {"title": {"text": "rank"}}, log)
    return panels.figure()


def trace_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Training epochs in order, a line for each model.

    A panel for the loss of each phase, and one each for DA and the accuracies after an epoch.

    Raises:
        RecordError: No record has the series trace, or one is malformed.
    """
    traces = {r.name: series.read_trace(r) for r in series.having(records, "trace")}
    found: list[tuple[str, dict[str, dict[int, float]]]] = []
    for phase in dict.fromkeys(p.phase for t in traces.values() for p in t):
        lines = {
            n: {j: p.loss for j, p in enumerate(t, start=1) if p.phase == phase}
            for n, t in traces.items()
        }
        found.append((f"loss: {shown(phase)}", lines))
    for key, title in series.GLANCES.items():
        lines = {
            n: {j: p.glances[key] for j, p in enumerate(t, start=1) if key in p.glances}
            for n, t in traces.items()
        }
        found.append((title, lines))
    found = [(title, lines) for title, lines in found if any(lines.values())]
    looks, panels = styles(records), Panels([title for title, _ in found], height=260, columns=3)
    # Without it plotly also marks half epochs.
    whole = {"dtick": 1} if max(map(len, traces.values())) <= 10 else {}
    for i, (_, lines) in enumerate(found):
        for name, line in ((n, v) for n, v in lines.items() if v):
            look: dict[str, Any] = {"line": looks[name].line(None), "marker": looks[name].marker(7)}
            panels.model(i, name, (line, line.values()), "%{x}: %{y:.3g}", **look)
        panels.axes(i, {"title": {"text": "training epoch"}, **whole}, {"automargin": True})
    return panels.figure()


def shown_models(
    records: Sequence[RunRecord], models: Sequence[str] | None = None
) -> list[RunRecord]:
    """The records of these models.

    Args:
        records: Where they are looked up.
        models: Their names; None for the original, one retrained model and the others, at most six.

    Raises:
        RecordError: A name is unknown.
    """
    by_name = {r.name: r for r in records}
    if models is not None:
        missing = [m for m in models if m not in by_name]
        if missing:
            raise RecordError(
                f"no feature map of model {missing[0]!r}; there are {', '.join(by_name)}"
            )
        return [by_name[m] for m in models]
    first = [
        r for role in ("original", "oracle") for r in [r for r in records if r.role == role][:1]
    ]
    others = [r for r in records if r.role in ("unlearned", "control")]
    return [*first, *others][:_MAX_MAPS]


def _draw_band(panels: Panels, panel: int, table: Table, name: str) -> None:
    if name not in table.reference:
        return
    mean, band = table.reference[name].mean, table.reference[name].band
    below: dict[str, Any] = {"full_height": True, "layer": "below"}
    if band is not None:
        low, high = band.within(next(c.range for c in table.columns if c.name == name))
        area: dict[str, Any] = {"type": "rect", "fillcolor": FAINT, "line": {"width": 0}}
        panels.shape(panel, x0=low, x1=high, **area, **below)
    line = {"color": GREEN, "width": 1.5}
    panels.shape(panel, type="line", x0=mean, x1=mean, line=line, **below)


def _map_traces(m: series.FeatureMap, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A trace for each retained class with samples here, then the forget set on top."""
    groups = [
        (f"class {shown(c)}", [j for j, f in enumerate(m.forget) if not f and m.label[j] == c])
        for c in classes
    ]
    looks = [class_marker(i) for i in range(len(classes))]
    groups.append((_FORGET, [j for j, f in enumerate(m.forget) if f]))
    looks.append({"color": VERMILLION, "symbol": "x", "size": 7, "opacity": 0.95})
    return [
        {
            "x": [_four_digits(m.x[j]) for j in rows],
            "y": [_four_digits(m.y[j]) for j in rows],
            "mode": "markers",
            "marker": look,
            "name": name,
            "text": [shown(m.id[j], 60) for j in rows],
            # The name of a retained class's trace says the class of all its samples.
            **({"customdata": [shown(m.label[j]) for j in rows]} if name == _FORGET else {}),
            "hovertemplate": "id %{text}" + ("<br>class %{customdata}" if name == _FORGET else ""),
        }
        for (name, rows), look in zip(groups, looks, strict=True)
        if rows
    ]


def _four_digits(place: float) -> float:
    """Finer than a pixel of a panel, and a third less to store for each of many samples."""
    return float(f"{place:.4g}")


SCORES_CHART = Chart(
    "metrics",
    scores_figure,
    "The headline scores of every model",
    "Line: mean of the retrained models; area: where one more of them would lie with 95 %. Bars:"
    " 95 % intervals.",
    takes=has_scores,
    hint="It takes a score with a value.",
)
DA_CHART = Chart(
    "da-curve",
    da_figure,
    "Dimensional alignment over k",
    "Where the curves of original and retrained models part, DA can tell them apart. The dotted"
    " line is the k of the table. The list above switches the form and the centring.",
    series="da_curve",
)
MAPS_CHART = Chart(
    "maps",
    maps_figure,
    "Where held-out samples lie in feature space",
    "The two main directions of each model's own features. In a retrained model the samples of"
    " the forget set's classes scatter over the other classes; a cluster of their own means that"
    " the features still know them.",
    series="pca",
)
TSNE_CHART = Chart(
    "maps-tsne",
    partial(maps_figure, kind="tsne"),
    "Feature maps by t-SNE",
    "The same samples, placed so that neighbours stay neighbours. Only who lies next to whom can"
    " be read here: sizes of clusters and distances between them mean nothing, and each model has"
    " a map of its own.",
    series="tsne",
    hint="Evaluate with --map tsne to have it.",
)
UMAP_CHART = Chart(
    "maps-umap",
    partial(maps_figure, kind="umap"),
    "Feature maps by UMAP",
    "As above, by another way to keep neighbours together; distances between clusters say little"
    " here too.",
    series="umap",
    hint="Evaluate with --map umap to have it.",
)
SPECTRA_CHART = Chart(
    "spectra",
    spectra_figure,
    "Spectra of the features",
    "Eigenvalues of the feature matrices, largest first, as shares of their sum.",
    series="spectrum",
)
TRACE_CHART = Chart(
    "trace",
    trace_figure,
    "How training went",
    "Loss in each training epoch; each phase has its own, so only lines within a panel compare. DA"
    " and accuracies were measured after each epoch on a few hundred training samples of each"
    " side: they show the course and are no scores.",
    series="trace",
)
