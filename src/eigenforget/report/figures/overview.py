"""Figures of scores, alignment, features and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure, PlotShape
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.readings import band_sentence, beside, judged_first
from eigenforget.report.figures.style import RETRAINED, RETRAINED_RANGE, shown, styles
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.table import Table, build, number


def has_scores(records: Sequence[RunRecord]) -> bool:
    """Whether any score has a value."""
    return any(s.value is not None for r in records for s in r.scores)


def scores_figure(records: Sequence[RunRecord]) -> Figure:
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
    titles, height = [shown(label(name), 40) for name in columns], 12 + 18 * len(rows)
    panels = Panels(titles, height=height, columns=3)
    names = {float(y): shown(row.model, 18) for y, row in enumerate(rows)}
    for i, name in enumerate(columns):
        _draw_band(panels, i, table, name)
        for y, row in enumerate(rows):
            cell = row.cells.get(name)
            if cell is None or cell.value is None:
                continue
            bars: dict[str, Any] = {}
            if cell.low is not None and cell.high is not None:
                bars = {"low": [cell.low], "high": [cell.high]}
            text = [f"{shown(row.model, 40)}: {number(cell.value)}"]
            look = looks[row.model].marks(9)
            panels.add(i, row.model, ([cell.value], [y]), look, texts=text, listed=False, **bars)
        panels.axes(i, Axis(), Axis(range=(len(rows) - 0.5, -0.5), ticks=names))
    return panels.figure()


def da_figure(records: Sequence[RunRecord]) -> Figure:
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
    looks, panels = styles(records), Panels([""], height=230, columns=1, choices=forms)
    for form in forms:
        for name, curve in ((n, c) for n, c in curves.items() if form in c.forms):
            points = (curve.k, curve.forms[form])
            panels.add(0, name, points, looks[name].line(), choice=form)
    for k in sorted({c.headline_k for c in curves.values() if c.headline_k is not None}):
        panels.mark(0, k, f"k = {k}")
    k_axis = Axis("k, the number of directions (logarithmic)", log=True, reads="k")
    panels.axes(0, k_axis, Axis("DA", range=(0.0, 1.03)))
    return panels.figure()


def spectra_figure(records: Sequence[RunRecord]) -> Figure:
    """Eigenvalues of retain and forget features as shares of their sum, largest first.

    Raises:
        RecordError: No record has the series spectrum, or one is malformed.
    """
    looks, panels = styles(records), Panels(["retain set", "forget set"], height=210, columns=2)
    for r in series.having(records, "spectrum"):
        for i, values in enumerate(series.read_spectrum(r)):
            # What is zero to rounding has no place on a logarithmic scale.
            positive = [v for v in values if v > 0]
            points = range(1, len(positive) + 1), positive
            panels.add(i, r.name, points, looks[r.name].line())
    for i in range(2):
        panels.axes(
            i,
            Axis("rank", whole=True, reads="rank"),
            Axis("share of the sum (logarithmic)", log=True),
        )
    return panels.figure()


def trace_figure(records: Sequence[RunRecord]) -> Figure:
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
    looks, panels = styles(records), Panels([t for t, _ in found], height=180, columns=3)
    for i, (_, lines) in enumerate(found):
        for name, line in ((n, v) for n, v in lines.items() if v):
            panels.add(i, name, (line, line.values()), looks[name].both(6))
        panels.axes(i, Axis("training epoch", whole=True, reads="epoch"), Axis())
    return panels.figure()


def scores_reading(records: Sequence[RunRecord]) -> str:
    """How many headline scores of the first and the last model are in the band."""
    table = build(records)
    names = [c.name for c in table.columns if c.name in HEADLINE]
    return band_sentence(table, names, "Headline scores")


def da_reading(records: Sequence[RunRecord]) -> str:
    """DA at the table's k."""
    values = {
        r.name: s.value for r in records for s in r.scores if s.name == "da" and s.value is not None
    }
    return f"At the k of the table, DA is {beside(records, values)}." if values else ""


def spectra_reading(records: Sequence[RunRecord]) -> str:
    """How much of the forget set's energy the first direction holds."""
    first = {r.name: series.read_spectrum(r).forget[0] for r in series.having(records, "spectrum")}
    told = beside(records, first, lambda share: f"{100 * share:.0f}%")
    return f"The first direction of the forget set holds {told} of its energy."


def trace_reading(records: Sequence[RunRecord]) -> str:
    """How many epochs the unlearned models took, the fewest and the most."""
    found = {r.name: len(r.series["trace"]) for r in records if r.series.get("trace")}
    judged = [r.name for r in judged_first(records) if r.name in found]
    if not judged:
        return ""
    fewest, most = (end(judged, key=found.__getitem__) for end in (min, max))
    if fewest == most:
        return f"{most} trained for {found[most]} epochs."
    return (
        f"Of the unlearned models, {fewest} trained for the fewest epochs ({found[fewest]}) and"
        f" {most} for the most ({found[most]})."
    )


def _draw_band(panels: Panels, panel: int, table: Table, name: str) -> None:
    if name not in table.oracles:
        return
    mean, band = table.oracles[name].mean, table.oracles[name].band
    if band is not None:
        ends = band.within(next(c.range for c in table.columns if c.name == name))
        panels.shape(panel, PlotShape(ends, (None, None), RETRAINED_RANGE))
    panels.shape(panel, PlotShape((mean, mean), (None, None), RETRAINED.line(1.5)))


SCORES_CHART = Chart(
    "metrics",
    scores_figure,
    "The headline scores of every model",
    "Line: mean of the retrained models; area: where one more of them would lie with 95 %"
    " probability. Bars: 95 % intervals.",
    scores_reading,
    takes=has_scores,
    hint="It takes a score with a value.",
)
DA_CHART = Chart(
    "da-curve",
    da_figure,
    "Dimensional alignment over k",
    "Where the curves of original and retrained models part, DA can tell them apart. The dotted"
    " line is the k of the table. The list above switches the form and the centring.",
    da_reading,
    series="da_curve",
)
SPECTRA_CHART = Chart(
    "spectra",
    spectra_figure,
    "Spectra of the features",
    "Eigenvalues of the feature matrices, largest first, as shares of their sum.",
    spectra_reading,
    series="spectrum",
)
TRACE_CHART = Chart(
    "trace",
    trace_figure,
    "How training went",
    "Loss in each training epoch; each phase has its own, so only lines within a panel compare. DA"
    " and accuracies were measured after each epoch on a few hundred training samples of each"
    " side: they show the course and are no scores.",
    trace_reading,
    series="trace",
)
