"""Figures of an analysis, a panel for each layer.

The original is grey, retrained models are green: their mean as a line, their range as an area.
Every figure raises RecordError where a series is malformed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.record import RunRecord
from eigenforget.report.figures.analysis_series import (
    SETS,
    AnalysisRecords,
    analysis_records,
    read_number,
    read_numbers,
    value_at,
)
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.series import DA_FORMS
from eigenforget.report.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    Style,
    shown,
)

_STYLES = {
    "retain": Style(BLUE, "circle", "solid"),
    "forget": Style(VERMILLION, "x", "solid"),
    "test_forget": Style(ORANGE, "cross", "dot"),
    "test_retain": Style(SKY, "square", "dash"),
}
_CENTRINGS = {"none": "features as they are", "each": "each side centred"}
_DISTANCES = {
    "neighbours": "to the nearest samples of the retain set",
    "class_mean": "to the nearest mean of a retained class",
}
_WIDE_ENTRY = 360  # pixels: names of sets are longer than models' names


def curves_figure(found: AnalysisRecords) -> go.Figure:
    """Alignment of the forget set (full) and of held-out samples (dotted) over k."""
    names = found.layers()
    forms = {
        form: words
        for form, words in DA_FORMS.items()
        if any(read_numbers(r, n, "curves", "forget", form) for r in found.all for n in names)
    } or {"frobenius_none": DA_FORMS["frobenius_none"]}
    panels = _panels([shown(n, 40) for n in names], 230, choices=forms)
    for i, name in enumerate(names):
        for form in forms:
            for part in (p for p in ("test_forget", "forget") if p in found.sets(name)):
                _add_curves(panels, i, found, layer=name, form=form, part=part)
        y = {"range": [0, 1.03], "title": {"text": "alignment"}, "automargin": True}
        panels.axes(i, {"type": "log", "title": {"text": "k (logarithmic)"}}, y)
        k = read_number(found.original, name, "k")
        if k:
            panels.mark(i, k, f"k = {k}", at_top=False)
    return panels.figure()


def _add_curves(
    panels: Panels, panel: int, found: AnalysisRecords, *, layer: str, form: str, part: str
) -> None:
    each = []
    for record in found.all:
        k = read_numbers(record, layer, "curves", part, "k")
        length = len(k) if k else None
        values = read_numbers(record, layer, "curves", part, form, length=length)
        each.append(dict(zip(k, values, strict=False)))
    # Models may differ in rank, so in the last k.
    common = sorted(set.intersection(*(set(c) for c in each)))
    if not common:
        return
    original, *retrained = [[c[k] for k in common] for c in each]
    what, dash = ("", "solid") if part == "forget" else (", held-out", "dot")
    look: dict[str, Any] = {"hovertemplate": "k = %{x}: %{y:.3f}", "mode": "lines"}
    green, grey = ({"color": c, "dash": dash, "width": 2} for c in (GREEN, GREY))
    _add_range(
        panels, panel, f"retrained{what}", common, retrained, choice=form, line=green, **look
    )
    panels.add(panel, f"original{what}", choice=form, x=common, y=original, line=grey, **look)


def spectra_by_set_figure(found: AnalysisRecords) -> go.Figure:
    """Eigenvalues of both sides as shares of their sum, largest first; two panels per layer."""
    pairs = [(n, p) for n in found.layers() for p in ("retain", "forget")]
    panels = _panels([f"{shown(n, 26)}: {SETS[p]}" for n, p in pairs], 200, choices=_CENTRINGS)
    for i, (name, part) in enumerate(pairs):
        for centring in _CENTRINGS:
            for record in reversed(found.all):
                values = read_numbers(record, name, "spectrum", centring, part)
                positive = [v for v in values if v > 0]
                mine = record is found.original
                panels.add(
                    i,
                    "original" if mine else "retrained",
                    choice=centring,
                    x=list(range(1, len(positive) + 1)),
                    y=positive,
                    mode="lines",
                    line={"color": GREY if mine else GREEN, "width": 2 if mine else 1.2},
                    hovertemplate=f"{shown(record.name)}, %{{x}}: %{{y:.2e}}",
                )
        log = {"type": "log", "exponentformat": "power", "nticks": 8, "automargin": True}
        panels.axes(i, {"title": {"text": "rank"}}, log)
    return panels.figure()


def shares_figure(found: AnalysisRecords) -> go.Figure:
    """How the share of one sample's energy in the retain set's eigenspace is distributed.

    The original stands beside the mean of the retrained models.
    """
    groups = {"original": (found.original,), "retrained models": found.oracles}
    pairs = [(n, who) for n in found.layers() for who in groups]
    panels = _panels([f"{shown(n, 26)}: {who}" for n, who in pairs], 190)
    for i, (name, who) in enumerate(pairs):
        for part in found.sets(name):
            rows = [read_numbers(r, name, "shares", part, "histogram") for r in groups[who]]
            if not all(rows) or len({len(row) for row in rows}) > 1:
                continue
            mean = _mean(rows)
            panels.add(
                i,
                SETS[part],
                x=[j / len(mean) for j in range(len(mean) + 1)],
                y=[*mean, mean[-1]],
                mode="lines",
                line={**_STYLES[part].line(), "shape": "hv"},
                hovertemplate="from %{x:.2f}: %{y:.1%} of samples",
            )
        x = {"range": [0, 1], "title": {"text": "share of energy in the k main directions"}}
        panels.axes(i, x, {"tickformat": ".0%", "automargin": True, "rangemode": "tozero"})
    return panels.figure()


def angles_figure(found: AnalysisRecords) -> go.Figure:
    """Principal angles between the main directions of forget and retain set, smallest first."""
    names = found.layers()
    panels = _panels([shown(n, 40) for n in names], 190, choices=_CENTRINGS)
    for i, name in enumerate(names):
        for centring in _CENTRINGS:
            rows = [read_numbers(r, name, "angles", centring, "forget") for r in found.all]
            last = min(len(row) for row in rows)
            if not last:
                continue
            original, *retrained = [row[:last] for row in rows]
            x = list(range(1, last + 1))
            look: dict[str, Any] = {"hovertemplate": "%{x}: %{y:.1f}°", "mode": "lines+markers"}
            green, grey = {"color": GREEN}, {"color": GREY}
            _add_range(panels, i, "retrained", x, retrained, choice=centring, line=green, **look)
            panels.add(i, "original", choice=centring, x=x, y=original, line=grey, **look)
        y = {"range": [-3, 93], "dtick": 30, "title": {"text": "degrees"}, "automargin": True}
        panels.axes(i, {"title": {"text": "angle number"}, "dtick": 1}, y)
    return panels.figure()


def distances_figure(found: AnalysisRecords) -> go.Figure:
    """How far samples of each set lie from the retain set: medians, 5 % and 95 % quantiles."""
    names = found.layers()
    panels = _panels([shown(n, 40) for n in names], 210, choices=_DISTANCES, gap=110)
    groups: tuple[tuple[str, str, str, Sequence[RunRecord]], ...] = (
        ("original", GREY, "diamond", (found.original,)),
        ("retrained", GREEN, "x", found.oracles),
    )
    for i, name in enumerate(names):
        present = found.sets(name)
        for which in _DISTANCES:
            for j, (who, colour, symbol, records) in enumerate(groups):
                means = [_mean_quantiles(records, name, which, part) for part in present]
                above, below = [m[4] - m[2] for m in means], [m[2] - m[0] for m in means]
                panels.add(
                    i,
                    who,
                    choice=which,
                    x=[place + 0.24 * j - 0.12 for place in range(len(present))],
                    y=[m[2] for m in means],
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 9},
                    error_y={"array": above, "arrayminus": below, "thickness": 1.2},
                    hovertemplate="median %{y:.3f}",
                )
        labels = [SETS[p].replace(" samples of ", "<br>").replace(" classes", "") for p in present]
        x = {"tickvals": list(range(len(present))), "ticktext": labels, "automargin": True}
        panels.axes(i, x, {"rangemode": "tozero", "automargin": True})
    return panels.figure()


def _mean_quantiles(records: Sequence[RunRecord], layer: str, which: str, part: str) -> list[float]:
    rows = (read_numbers(r, layer, "distances", which, part, length=5) for r in records)
    return _mean([row or [math.nan] * 5 for row in rows])


def similarity_figure(found: AnalysisRecords) -> go.Figure:
    """CKA of retrained models with the original, and among each other, over the layers."""
    names = found.layers()
    present = found.sets(names[0])
    panels = _panels([SETS[p] for p in present], 190, gap=120)
    lines = (
        ("oracle", "retrained with retrained", GREEN, "dot"),
        ("original", "original with retrained", GREY, "solid"),
    )
    for i, part in enumerate(present):
        for against, label, colour, dash in lines:
            every = [
                [read_number(r, n, "cka", against, part) for n in names] for r in found.oracles
            ]
            rows = [[v for v in row if v is not None] for row in every]
            if all(len(row) == len(names) for row in rows):
                look = {"mode": "lines+markers", "hovertemplate": "%{y:.3f}"}
                line = {"color": colour, "dash": dash, "width": 2}
                _add_range(panels, i, label, range(len(names)), rows, line=line, **look)
        ticks = {"tickvals": list(range(len(names))), "ticktext": [shown(n, 14) for n in names]}
        x = {**ticks, "tickangle": 30, "automargin": True}
        panels.axes(i, x, {"range": [0, 1.03], "automargin": True})
    return panels.figure()


def sets_map_figure(found: AnalysisRecords) -> go.Figure:
    """Samples in the two main directions of the retain set, two panels for each layer.

    The original stands beside the first retrained model.
    """
    pairs = [(n, r) for n in found.layers() for r in (found.original, found.oracles[0])]
    titles = [
        f"{shown(n, 26)}: {'original' if r is found.original else 'retrained'}" for n, r in pairs
    ]
    panels = _panels(titles, 260, gap=84)
    for i, (name, record) in enumerate(pairs):
        x = read_numbers(record, name, "map", "x")
        y = read_numbers(record, name, "map", "y", length=len(x))
        parts, labels = (
            [str(v) for v in value_at(record, name, "map", what) or []]
            for what in ("part", "label")
        )
        for part in found.sets(name):
            rows = [j for j in range(min(len(x), len(parts), len(labels))) if parts[j] == part]
            if not rows:
                continue
            size, opacity = (5, 0.35) if part == "retain" else (7, 0.8)
            panels.add(
                i,
                SETS[part],
                x=[x[j] for j in rows],
                y=[y[j] for j in rows],
                mode="markers",
                marker={**_STYLES[part].marker(size), "opacity": opacity},
                text=[f"class {shown(labels[j])}" for j in rows],
                hovertemplate="%{text}",
            )
        explained = read_numbers(record, name, "map", "explained", length=2) or [0.0, 0.0]
        bare = [
            {"title": {"text": f"{v:.0%} of variance"}, "showticklabels": False, "ticks": ""}
            for v in explained
        ]
        panels.axes(i, *bare)
    return panels.figure()


def _panels(titles: Sequence[str], height: int, **layout: Any) -> Panels:
    return Panels(titles, height=height, columns=2, legend_entry=_WIDE_ENTRY, **layout)


def _add_range(
    panels: Panels,
    panel: int,
    name: str,
    x: Sequence[Any],
    rows: Sequence[Sequence[float]],
    *,
    choice: str = "",
    **line: Any,
) -> None:
    """The mean of the rows as a line; of several rows also an area from lowest to highest."""
    if len(rows) > 1:
        low, high = ([end(column) for column in zip(*rows, strict=True)] for end in (min, max))
        panels.add(
            panel,
            name,
            choice=choice,
            listed=False,
            x=[*x, *reversed(x)],
            y=[*high, *reversed(low)],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=FAINT,
            hoverinfo="skip",
        )
    panels.add(panel, name, choice=choice, x=list(x), y=_mean(rows), **line)


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean row; the rows have the same length."""
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def _chart(
    id: str, figure: Callable[[AnalysisRecords], go.Figure], title: str, caption: str
) -> Chart:
    return Chart(id, lambda records: figure(analysis_records(records)), title, caption, "analysis")


ANALYSIS_CHARTS = (
    _chart(
        "curves",
        curves_figure,
        "Alignment over k",
        "How much of the forget set's feature energy lies in the k main directions of the retain"
        " set. Full lines: the forget set, which only the original saw; dotted: held-out samples of"
        " forgotten classes, which no model saw. Green area: from the lowest to the highest"
        " retrained model. The vertical line is the k of the words above. The list switches form"
        " and centring.",
    ),
    _chart(
        "shares",
        shares_figure,
        "How much of each sample lies in the retain set's directions",
        "The share of one sample's feature energy that lies in the k main directions of the retain"
        " set, over samples. Where a set lies left of the retain set, the model holds directions"
        " for its samples that the retain set does not have.",
    ),
    _chart(
        "maps",
        sets_map_figure,
        "Where samples lie among the features of the retain set",
        "The two main directions of the retain set, found for each model on its own; all sets are"
        " placed in them. Where the forget set scatters over the retain set, the model has no place"
        " of its own for it.",
    ),
    _chart(
        "distances",
        distances_figure,
        "How far samples lie from the retain set",
        "Medians, with bars from the 5 % to the 95 % quantile (of retrained models: their means)."
        " To the nearest samples: in units of what held-out samples of retained classes have. To"
        " the nearest mean of a retained class: in units of the mean distance between these means.",
    ),
    _chart(
        "angles",
        angles_figure,
        "Angles between forget and retain directions",
        "Principal angles between the 5 main directions of the forget set and the k main directions"
        " of the retain set, smallest first: 0° is a shared direction, 90° one that the retain set"
        " does not have.",
    ),
    _chart(
        "spectra",
        spectra_by_set_figure,
        "Spectra",
        "Eigenvalues of the features as shares of their sum, largest first. The steeper, the fewer"
        " directions hold the features.",
    ),
    _chart(
        "similarity",
        similarity_figure,
        "Are these the same features?",
        "Linear CKA, 1 for features that are equal up to a rotation and a scale. Where the line of"
        " original and retrained models lies below the dotted one, they differ by more than"
        " retrained models differ among each other.",
    ),
)
