"""The membership attack as a figure: the share of members found at each share of false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.readings import beside
from eigenforget.report.figures.style import HINT, styles


def roc_figure(records: Sequence[RunRecord]) -> Figure:
    """ROC of the attack by the loss, a line for each model, both axes logarithmic.

    Marks stand where the share of false alarms is one of series.ROC_RATES. Corners at which a
    rate is zero have no place on such axes, and are left out.

    Raises:
        RecordError: No record has the series mia_roc, or one is malformed.
    """
    curves = {r.name: series.read_roc(r) for r in series.having(records, "mia_roc")}
    looks, panels = styles(records), Panels([""], height=300, columns=1)
    least = min(min(1 / c.members, 1 / c.others) for c in curves.values())
    panels.add(0, "guessing", ([least, 1.0], [least, 1.0]), HINT)
    for name, c in curves.items():
        corners = [(f, t) for f, t in zip(c.false, c.true, strict=True) if f and t]
        points = [f / c.others for f, _ in corners], [t / c.members for _, t in corners]
        panels.add(0, name, points, looks[name].line())
        marks = {rate: share for rate, share in c.rates.items() if share > 0}
        panels.add(0, name, (marks, marks.values()), looks[name].marks(9), listed=False)
    for rate in (r for r in series.ROC_RATES if any(r in c.rates for c in curves.values())):
        panels.mark(0, rate, f"{100 * rate:g} %")
    log = Axis(log=True, percent=True, range=(10 ** (math.log10(least) - 0.05), 10**0.05))
    false = "false alarms, share of others (logarithmic)"
    found = replace(log, title="members found (logarithmic)")
    panels.axes(0, replace(log, title=false, reads="false alarms"), found)
    return panels.figure()


def roc_reading(records: Sequence[RunRecord]) -> str:
    """What the attack finds at the fewest false alarms that every model has a mark for."""
    curves = {r.name: series.read_roc(r) for r in series.having(records, "mia_roc")}
    common = [rate for rate in series.ROC_RATES if all(rate in c.rates for c in curves.values())]
    if not common:
        return ""
    shares = {name: c.rates[common[0]] for name, c in curves.items()}
    told = beside(records, shares, lambda share: f"{100 * share:.1f}%")
    return f"At {100 * common[0]:g} % false alarms the attack finds {told} of the forget set."


ROC_CHART = Chart(
    "roc",
    roc_figure,
    "What a membership attack finds, by the false alarms it makes",
    "The attack calls members the forget samples with the lowest loss. On the dotted line it"
    " guesses; what matters is how far above it a curve lies on the left, where the attack is"
    " almost always right. Marks: at 0.1, 1 and 10 % false alarms, where there are samples enough."
    " Zero has no place on these axes: a line begins with the first member found and the first"
    " false alarm, which is at the earliest at one divided by the number of samples.",
    roc_reading,
    series="mia_roc",
)
