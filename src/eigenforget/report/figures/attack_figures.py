"""The membership attack as a figure: what share of members is found at what share of false alarms.

Errors: RecordError when no record has the series, or one is malformed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.style import GREY, Panels, dress, lay_out, shown, styles


def roc(records: Sequence[RunRecord]) -> go.Figure:
    """ROC of the attack by the loss, a line per model, both axes logarithmic; marks where the share
    of false alarms is one of series.RATES.

    Corners at which one of the rates is zero have no place on such axes, and are left out.
    """
    found = series.having(records, "mia_roc")
    curves = {r.name: series.roc(r) for r in found}
    looks, fig = styles(records), go.Figure()
    lowest = min(min(1 / c.members, 1 / c.others) for c in curves.values())
    guessing = {"color": GREY, "dash": "dot", "width": 1.5}
    fig.add_scatter(
        x=[lowest, 1], y=[lowest, 1], mode="lines", name="guessing", line=guessing, hoverinfo="skip"
    )
    for name, c in curves.items():
        kept = [(f, t) for f, t in zip(c.false, c.true, strict=True) if f and t]
        look = {"name": shown(name), "legendgroup": name}
        fig.add_scatter(
            x=[f / c.others for f, _ in kept],
            y=[t / c.members for _, t in kept],
            mode="lines",
            **look,
            line={"color": looks[name].colour, "dash": looks[name].dash, "width": 2},
            customdata=[list(pair) for pair in kept],
            hovertemplate=f"%{{customdata[1]}} of {c.members} found, %{{customdata[0]}} of {c.others} false alarms",
        )
        at = {rate: share for rate, share in c.at.items() if share > 0}
        fig.add_scatter(
            x=list(at),
            y=list(at.values()),
            mode="markers",
            showlegend=False,
            **look,
            marker={"color": looks[name].colour, "symbol": looks[name].symbol, "size": 9},
            hovertemplate="%{y:.1%} found at %{x:.1~%} false alarms",
        )
    dress(fig, height=400)
    for rate in (r for r in series.RATES if any(r in c.at for c in curves.values())):
        fig.add_shape(
            type="line",
            x0=rate,
            x1=rate,
            y0=0,
            y1=1,
            yref="paper",
            line={"color": GREY, "dash": "dot", "width": 1},
            layer="below",
        )
        place = {
            "x": math.log10(rate),
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
        }
        fig.add_annotation(text=f"{100 * rate:g} %", **place)
    log = {
        "type": "log",
        "tickformat": ".2~%",
        "dtick": 1,
        "range": [math.log10(lowest) - 0.05, 0.05],
        "automargin": True,
    }
    fig.update_xaxes(title_text="false alarms, share of others (logarithmic)", **log)
    fig.update_yaxes(title_text="members found (logarithmic)", **log)
    return lay_out(fig, Panels(1, 340, entries=len(found) + 1), wide=1)
