"""The membership attack as a figure: the share of members found at each share of false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.style import GREY, Style, shown, styles


def roc_figure(records: Sequence[RunRecord]) -> go.Figure:
    """ROC of the attack by the loss, a line for each model, both axes logarithmic.

    Marks stand where the share of false alarms is one of series.ROC_RATES. Corners at which a
    rate is zero have no place on such axes, and are left out.

    Raises:
        RecordError: No record has the series mia_roc, or one is malformed.
    """
    curves = {r.name: series.read_roc(r) for r in series.having(records, "mia_roc")}
    looks, panels = styles(records), Panels([""], height=340, columns=1)
    least = min(min(1 / c.members, 1 / c.others) for c in curves.values())
    dots = {"color": GREY, "dash": "dot", "width": 1.5}
    ends: dict[str, Any] = {"x": [least, 1], "y": [least, 1], "mode": "lines", "hoverinfo": "skip"}
    panels.add(0, "guessing", line=dots, **ends)
    for name, c in curves.items():
        corners = [(f, t) for f, t in zip(c.false, c.true, strict=True) if f and t]
        points = [f / c.others for f, _ in corners], [t / c.members for _, t in corners]
        found, alarms = f"%{{customdata[1]}} of {c.members}", f"%{{customdata[0]}} of {c.others}"
        hover, counts = f"{found} found, {alarms} false alarms", [list(pair) for pair in corners]
        panels.model(0, name, points, hover, line=looks[name].line(), customdata=counts)
        _add_marks(panels, name, c, looks[name])
    for rate in (r for r in series.ROC_RATES if any(r in c.rates for c in curves.values())):
        panels.mark(0, rate, f"{100 * rate:g} %", width=1)
    log = {
        "type": "log",
        "tickformat": ".2~%",
        "dtick": 1,
        "range": [math.log10(least) - 0.05, 0.05],
        "automargin": True,
    }
    false = {"title": {"text": "false alarms, share of others (logarithmic)"}}
    panels.axes(0, {**log, **false}, {**log, "title": {"text": "members found (logarithmic)"}})
    return panels.figure()


def _add_marks(panels: Panels, name: str, counts: series.RocSeries, look: Style) -> None:
    marks = {rate: share for rate, share in counts.rates.items() if share > 0}
    panels.add(
        0,
        shown(name),
        group=name,
        x=list(marks),
        y=list(marks.values()),
        mode="markers",
        marker=look.marker(9),
        hovertemplate="%{y:.1%} found at %{x:.1~%} false alarms",
    )


ROC_CHART = Chart(
    "roc",
    roc_figure,
    "What a membership attack finds, by the false alarms it makes",
    "The attack calls members the forget samples with the lowest loss. On the dotted line it"
    " guesses; what matters is how far above it a curve lies on the left, where the attack is"
    " almost always right. Marks: at 0.1, 1 and 10 % false alarms, where there are samples enough."
    " Zero has no place on these axes: a line begins with the first member found and the first"
    " false alarm, which is at the earliest at one divided by the number of samples.",
    series="mia_roc",
)
