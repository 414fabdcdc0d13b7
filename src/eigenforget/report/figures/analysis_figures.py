"""Figures of an analysis, a panel for each layer.

The original is grey, retrained models are green: their mean as a line, their range as an area.
Every figure raises RecordError where a series is malformed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from eigenforget.core.text import joined
from eigenforget.record import RunRecord
from eigenforget.report.figures.analysis_series import (
    INDICATORS,
    SETS,
    AnalysisRecords,
    analysis_records,
    read_number,
    read_numbers,
    value_at,
)
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure
from eigenforget.report.figures.maps import direction_axis
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.series import DA_FORMS
from eigenforget.report.figures.style import (
    FORGET,
    GREY,
    ORANGE,
    ORIGINAL,
    RETRAINED,
    RETRAINED_RANGE,
    Style,
    shown,
)

_STYLES = {
    "retain": Style(GREY, "circle", "solid"),
    "forget": FORGET,
    "test_forget": Style(ORANGE, "cross", "dot"),
    "test_retain": Style(GREY, "square-open", "dash"),
}
_CENTRINGS = {"none": "features as they are", "each": "each side centred"}
_SHORT_SETS = {
    "retain": "retain",
    "forget": "forget",
    "test_forget": "held-out, forgotten",
    "test_retain": "held-out, retained",
}
_DISTANCES = {
    "neighbours": "to the nearest samples of the retain set",
    "class_mean": "to the nearest mean of a retained class",
}


def curves_figure(found: AnalysisRecords) -> Figure:
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
        k_axis = Axis("k (logarithmic)", log=True, reads="k")
        panels.axes(i, k_axis, Axis("alignment", range=(0.0, 1.03)))
        k = read_number(found.original, name, "k")
        if k:
            panels.mark(i, k, f"k = {k:g}")
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
    green, grey = (replace(style, dash=dash).line() for style in (RETRAINED, ORIGINAL))
    _add_range(panels, panel, f"retrained{what}", common, retrained, green, choice=form)
    panels.add(panel, f"original{what}", (common, original), grey, choice=form)


def spectra_by_set_figure(found: AnalysisRecords) -> Figure:
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
                    (range(1, len(positive) + 1), positive),
                    ORIGINAL.line() if mine else RETRAINED.line(1.2),
                    choice=centring,
                )
        panels.axes(
            i,
            Axis("rank", whole=True, reads="rank"),
            Axis("share of the sum (logarithmic)", log=True),
        )
    return panels.figure()


def shares_figure(found: AnalysisRecords) -> Figure:
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
            edges = [j / len(mean) for j in range(len(mean) + 1)]
            points, look = (edges, [*mean, mean[-1]]), _STYLES[part].line()
            panels.add(i, SETS[part], points, look, kind="steps")
        x = Axis("share of energy in the k main directions", range=(0.0, 1.0), reads="from")
        panels.axes(i, x, Axis("samples", percent=True, from_zero=True))
    return panels.figure()


def angles_figure(found: AnalysisRecords) -> Figure:
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
            _add_range(panels, i, "retrained", x, retrained, RETRAINED.both(), choice=centring)
            panels.add(i, "original", (x, original), ORIGINAL.both(), choice=centring)
        panels.axes(
            i, Axis("angle number", whole=True, reads="angle"), Axis("degrees", range=(-3.0, 93.0))
        )
    return panels.figure()


def distances_figure(found: AnalysisRecords) -> Figure:
    """How far samples of each set lie from the retain set: medians, 5 % and 95 % quantiles."""
    names = found.layers()
    panels = _panels([shown(n, 40) for n in names], 210, choices=_DISTANCES)
    groups: tuple[tuple[str, Style, Sequence[RunRecord]], ...] = (
        ("original", ORIGINAL, (found.original,)),
        ("retrained", RETRAINED, found.oracles),
    )
    for i, name in enumerate(names):
        present = found.sets(name)
        for which in _DISTANCES:
            for j, (who, look, records) in enumerate(groups):
                means = [_mean_quantiles(records, name, which, part) for part in present]
                known = [m for m in means if not math.isnan(m[2])]
                places = [p for p, m in enumerate(means) if not math.isnan(m[2])]
                panels.add(
                    i,
                    who,
                    ([place + 0.24 * j - 0.12 for place in places], [m[2] for m in known]),
                    look.marks(9),
                    choice=which,
                    low=[m[0] for m in known],
                    high=[m[4] for m in known],
                    bars="y",
                )
        labels = {float(j): _SHORT_SETS[p] for j, p in enumerate(present)}
        x = Axis(range=(-0.5, len(present) - 0.5), ticks=labels)
        panels.axes(i, x, Axis(from_zero=True))
    return panels.figure()


def _mean_quantiles(records: Sequence[RunRecord], layer: str, which: str, part: str) -> list[float]:
    rows = (read_numbers(r, layer, "distances", which, part, length=5) for r in records)
    return _mean([row or [math.nan] * 5 for row in rows])


def similarity_figure(found: AnalysisRecords) -> Figure:
    """CKA of retrained models with the original, and among each other, over the layers."""
    names = found.layers()
    present = found.sets(names[0])
    panels = _panels([SETS[p] for p in present], 190)
    lines = (
        ("oracle", "retrained with retrained", replace(RETRAINED, dash="dot").both()),
        ("original", "original with retrained", ORIGINAL.both()),
    )
    for i, part in enumerate(present):
        for against, label, look in lines:
            every = [
                [read_number(r, n, "cka", against, part) for n in names] for r in found.oracles
            ]
            rows = [[v for v in row if v is not None] for row in every]
            if all(len(row) == len(names) for row in rows):
                _add_range(panels, i, label, range(len(names)), rows, look)
        ticks = {float(j): shown(n, 14) for j, n in enumerate(names)}
        panels.axes(i, Axis(ticks=ticks, tilted=True), Axis("CKA", range=(0.0, 1.03)))
    return panels.figure()


def sets_map_figure(found: AnalysisRecords) -> Figure:
    """Samples in the two main directions of the retain set, two panels for each layer.

    The original stands beside the first retrained model.
    """
    pairs = [(n, r) for n in found.layers() for r in (found.original, found.oracles[0])]
    titles = [
        f"{shown(n, 26)}: {'original' if r is found.original else 'retrained'}" for n, r in pairs
    ]
    panels = _panels(titles, 260)
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
            look = replace(_STYLES[part], opacity=opacity).marks(size)
            told = [f"class {shown(labels[j])}" for j in rows]
            places = [x[j] for j in rows], [y[j] for j in rows]
            panels.add(i, SETS[part], places, look, texts=told)
        explained = read_numbers(record, name, "map", "explained", length=2) or [0.0, 0.0]
        panels.axes(i, *(direction_axis(j, share) for j, share in enumerate(explained)))
    return panels.figure()


def _panels(titles: Sequence[str], height: int, **layout: Any) -> Panels:
    return Panels(titles, height=height, columns=2, **layout)


def _add_range(
    panels: Panels,
    panel: int,
    name: str,
    x: Sequence[Any],
    rows: Sequence[Sequence[float]],
    style: Style,
    *,
    choice: str = "",
) -> None:
    """The mean of the rows as a line; of several rows also an area from lowest to highest."""
    if len(rows) > 1:
        low, high = ([end(column) for column in zip(*rows, strict=True)] for end in (min, max))
        outline = [*x, *reversed(x)], [*high, *reversed(low)]
        look = RETRAINED_RANGE
        panels.add(panel, name, outline, look, choice=choice, kind="area", listed=False)
    panels.add(panel, name, (x, _mean(rows)), style, choice=choice)


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean row; the rows have the same length."""
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def _widest(found: AnalysisRecords, name: str, written: str) -> str:
    """An indicator of the forget set, at the layer where it tells most."""
    values = {n: found.contrast(n, "forget", INDICATORS[name]) for n in found.layers()}
    known = {n: value for n, value in values.items() if value.says}
    if not known:
        return ""
    layer = max(known, key=lambda n: abs(known[n].gap))
    value = known[layer]
    before, after = (format(v or 0.0, written) for v in (value.original, value.mean))
    return (
        f"At {layer}, {INDICATORS[name].label} of the forget set is {before} in the original and"
        f" {after} in retrained models."
    )


def _first_eigenvalues(found: AnalysisRecords) -> str:
    """How much the first direction of the forget set holds at the last layer."""
    layer = found.layers()[-1]
    rows = [read_numbers(r, layer, "spectrum", "none", "forget") for r in found.all]
    if not all(rows):
        return ""
    return (
        f"At {layer}, the first direction of the forget set holds {rows[0][0]:.0%} of its energy in"
        f" the original and {statistics.fmean(row[0] for row in rows[1:]):.0%} in retrained models."
    )


def _similarities(found: AnalysisRecords) -> str:
    """CKA of the forget set at the last layer."""
    layer, told = found.layers()[-1], []
    for against, words in (("original", "the original"), ("oracle", "each other")):
        values = [read_number(r, layer, "cka", against, "forget") for r in found.oracles]
        known = [v for v in values if v is not None]
        if known:
            told.append(f"{statistics.fmean(known):.2f} with {words}")
    if not told:
        return ""
    return f"At {layer}, CKA of retrained models on the forget set is {joined(told)}."


def _chart(
    id: str,
    figure: Callable[[AnalysisRecords], Figure],
    title: str,
    caption: str,
    reading: Callable[[AnalysisRecords], str],
) -> Chart:
    return Chart(
        id,
        lambda records: figure(analysis_records(records)),
        title,
        caption,
        lambda records: reading(analysis_records(records)),
        "analysis",
    )


ANALYSIS_PICTURES = (
    _chart(
        "maps",
        sets_map_figure,
        "Where samples lie among the features of the retain set",
        "The two main directions of the retain set, found for each model on its own; all sets are"
        " placed in them. Where the forget set scatters over the retain set, the model has no place"
        " of its own for it.",
        lambda found: _widest(found, "class_mean", ".2f"),
    ),
    _chart(
        "curves",
        curves_figure,
        "Alignment over k",
        "How much of the forget set's feature energy lies in the k main directions of the retain"
        " set. Full lines: the forget set, which only the original saw; dotted: held-out samples of"
        " forgotten classes, which no model saw. Green area: from the lowest to the highest"
        " retrained model. The dotted line is the k of the page. The list switches form"
        " and centring.",
        lambda found: _widest(found, "da", ".3f"),
    ),
)
"""What convinces, in the order of the page."""

FURTHER_ANALYSIS = (
    _chart(
        "shares",
        shares_figure,
        "How much of each sample lies in the retain set's directions",
        "The share of one sample's feature energy that lies in the k main directions of the retain"
        " set, over samples. Where a set lies left of the retain set, the model holds directions"
        " for its samples that the retain set does not have.",
        lambda found: _widest(found, "share", ".2f"),
    ),
    _chart(
        "distances",
        distances_figure,
        "How far samples lie from the retain set",
        "Medians, with bars from the 5 % to the 95 % quantile (of retrained models: their means)."
        " To the nearest samples: in units of what held-out samples of retained classes have. To"
        " the nearest mean of a retained class: in units of the mean distance between these means.",
        lambda found: _widest(found, "neighbours", ".2f"),
    ),
    _chart(
        "angles",
        angles_figure,
        "Angles between forget and retain directions",
        "Principal angles between the 5 main directions of the forget set and the k main directions"
        " of the retain set, smallest first: 0° is a shared direction, 90° one that the retain set"
        " does not have.",
        lambda found: _widest(found, "angle_mean", ".1f"),
    ),
    _chart(
        "spectra",
        spectra_by_set_figure,
        "Spectra",
        "Eigenvalues of the features as shares of their sum, largest first. The steeper, the fewer"
        " directions hold the features.",
        _first_eigenvalues,
    ),
    _chart(
        "similarity",
        similarity_figure,
        "Are these the same features?",
        "Linear CKA, 1 for features that are equal up to a rotation and a scale. Where the line of"
        " original and retrained models lies below the dotted one, they differ by more than"
        " retrained models differ among each other.",
        _similarities,
    ),
)
"""All other figures, which the reader unfolds."""

ANALYSIS_CHARTS = (*ANALYSIS_PICTURES, *FURTHER_ANALYSIS)
"""Every figure of an analysis."""
