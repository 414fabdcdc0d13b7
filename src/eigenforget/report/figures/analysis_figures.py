"""Figures of an analysis, a panel per layer: original in grey, retrained models in green, their
mean as a line and their range as an area.

Each takes the models and draws what their records hold. Errors: RecordError where a series is
malformed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from eigenforget.report.figures.series import DA_FORMS
from eigenforget.report.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    Panels,
    axis,
    dress,
    key,
    lay_out,
    shown,
    title_panels,
    with_choices,
)
from eigenforget.report.pages.analysis_series import SETS, Models, layers, number, numbers, sets

COLOURS = {"retain": BLUE, "forget": VERMILLION, "test_forget": ORANGE, "test_retain": SKY}
_SYMBOLS = {"retain": "circle", "forget": "x", "test_forget": "cross", "test_retain": "square"}
_DASHES = {"retain": "solid", "forget": "solid", "test_forget": "dot", "test_retain": "dash"}
_CENTERINGS = {"none": "features as they are", "each": "each side centred"}
_DISTANCES = {
    "neighbours": "to the nearest kept samples",
    "class_mean": "to the nearest kept class mean",
}


class _Board:
    """A figure with a panel each, whose traces belong to choices of a list; each legend entry
    stands once for each choice.
    """

    def __init__(self, choices: Sequence[str]) -> None:
        self.fig, self.choices = go.Figure(), list(choices)
        self._of: list[str] = []
        self._listed: set[tuple[str, str]] = set()

    def add(self, choice: str, panel: int, name: str, **trace: Any) -> None:
        told = trace.pop("told", True) and (choice, name) not in self._listed
        self._of.append(choice)
        if told:
            self._listed.add((choice, name))
        place = {
            "xaxis": axis("x", panel),
            "yaxis": axis("y", panel),
            "visible": choice == self.choices[0],
        }
        self.fig.add_scatter(**trace, **place, name=name, legendgroup=name, showlegend=told)

    def band(
        self,
        choice: str,
        panel: int,
        name: str,
        x: Sequence[Any],
        rows: Sequence[Sequence[float]],
        **line: Any,
    ) -> None:
        """The mean of the rows as a line, and an area from the lowest to the highest where there
        are several.
        """
        if len(rows) > 1:
            low, high = ([end(column) for column in zip(*rows, strict=True)] for end in (min, max))
            edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "told": False}
            self.add(
                choice,
                panel,
                name,
                x=[*x, *reversed(x)],
                y=[*high, *reversed(low)],
                fill="toself",
                fillcolor=FAINT,
                **edge,
            )
        self.add(
            choice, panel, name, x=list(x), y=_mean(rows), mode=line.pop("mode", "lines"), **line
        )

    def finish(
        self,
        titles: Sequence[str],
        labels: dict[str, str],
        *,
        height: int,
        wide: int,
        gap: int = 64,
    ) -> go.Figure:
        dress(self.fig, height=400)
        title_panels(self.fig, titles)
        entries = max(
            (sum(c == choice for c, _ in self._listed) for choice in self.choices), default=0
        )
        # Names here are longer than models' names, for which a legend line is reckoned.
        lay_out(self.fig, Panels(len(titles), height, entries=2 * entries, gap=gap), wide=wide)
        return with_choices(
            self.fig, {labels.get(c, c): [o == c for o in self._of] for c in self.choices}
        )


def curves(found: Models) -> go.Figure:
    """Alignment of forgotten (full) and of held-out forgotten features (dotted) with the kept ones
    over k; a dotted line at the headline k.
    """
    names = layers(found)
    forms = [
        f
        for f in DA_FORMS
        if any(numbers(r, name, "curves", "forget", f) for r in found.all for name in names)
    ]
    board = _Board(forms or list(DA_FORMS)[:1])
    for panel, name in enumerate(names):
        for form in forms:
            for part in (p for p in ("test_forget", "forget") if p in sets(found, name)):
                _curves(board, found, (panel, name), form, part)
        _log_k(board.fig, panel, number(found.original, name, "k"))
    return board.finish([shown(n, 40) for n in names], DA_FORMS, height=230, wide=2)


def _curves(board: _Board, found: Models, where: tuple[int, str], form: str, part: str) -> None:
    panel, name = where
    each = []
    for record in found.all:
        k = numbers(record, name, "curves", part, "k")
        each.append(
            dict(
                zip(
                    k,
                    numbers(record, name, "curves", part, form, length=len(k) if k else None),
                    strict=False,
                )
            )
        )
    # Models may differ in rank, so in the last k.
    common = sorted(set.intersection(*(set(c) for c in each)))
    if not common:
        return
    what = "" if part == "forget" else ", held-out"
    rows = [[c[k] for k in common] for c in each]
    look = {"hovertemplate": "k = %{x}: %{y:.3f}"}
    dash = "solid" if part == "forget" else "dot"
    board.band(
        form,
        panel,
        f"retrained{what}",
        common,
        rows[1:],
        line={"color": GREEN, "dash": dash, "width": 2},
        **look,
    )
    board.add(
        form,
        panel,
        f"original{what}",
        x=common,
        y=rows[0],
        mode="lines",
        line={"color": GREY, "dash": dash, "width": 2},
        **look,
    )


def _log_k(fig: go.Figure, panel: int, k: float | None) -> None:
    fig.update_layout(
        {
            key("x", panel): {"type": "log", "title": {"text": "k (logarithmic)"}},
            key("y", panel): {
                "range": [0, 1.03],
                "title": {"text": "alignment"},
                "automargin": True,
            },
        }
    )
    if k:
        refs = {"xref": axis("x", panel), "yref": f"{axis('y', panel)} domain"}
        fig.add_shape(
            type="line",
            x0=k,
            x1=k,
            y0=0,
            y1=1,
            line={"color": GREY, "dash": "dot", "width": 1.5},
            **refs,
        )
        fig.add_annotation(
            text=f"k = {k}",
            x=math.log10(k),
            y=0,
            yanchor="bottom",
            xanchor="left",
            showarrow=False,
            **refs,
        )


def spectra(found: Models) -> go.Figure:
    """Eigenvalues of kept and of forgotten features as shares of their sum, largest first; two
    panels per layer.
    """
    names, parts = layers(found), ("retain", "forget")
    board = _Board(list(_CENTERINGS))
    for i, (name, part) in enumerate((n, p) for n in names for p in parts):
        for centering in _CENTERINGS:
            for record in reversed(found.all):
                values = [v for v in numbers(record, name, "spectrum", centering, part) if v > 0]
                who = "original" if record is found.original else "retrained"
                line = {
                    "color": GREY if who == "original" else GREEN,
                    "width": 2 if who == "original" else 1.2,
                }
                x = list(range(1, len(values) + 1))
                board.add(
                    centering,
                    i,
                    who,
                    x=x,
                    y=values,
                    mode="lines",
                    line=line,
                    hovertemplate=f"{shown(record.name)}, %{{x}}: %{{y:.2e}}",
                )
        log = {"type": "log", "exponentformat": "power", "nticks": 8, "automargin": True}
        board.fig.update_layout({key("x", i): {"title": {"text": "rank"}}, key("y", i): log})
    titles = [
        f"{shown(n, 26)}: {'kept' if p == 'retain' else 'forgotten'} samples"
        for n in names
        for p in parts
    ]
    return board.finish(titles, _CENTERINGS, height=200, wide=2)


def shares(found: Models) -> go.Figure:
    """How the share of one sample's energy in the kept eigenspace is distributed, original beside
    the mean of the retrained models.
    """
    names, board = layers(found), _Board(["all"])
    for i, (name, group) in enumerate(
        (n, g) for n in names for g in ((found.original,), found.oracles)
    ):
        for part in sets(found, name):
            rows = [numbers(r, name, "shares", part, "histogram") for r in group]
            if not all(rows) or len({len(row) for row in rows}) > 1:
                continue
            edges = [j / len(rows[0]) for j in range(len(rows[0]) + 1)]
            line = {"color": COLOURS[part], "dash": _DASHES[part], "shape": "hv", "width": 2}
            mean = _mean(rows)
            look = {
                "mode": "lines",
                "line": line,
                "hovertemplate": "from %{x:.2f}: %{y:.1%} of samples",
            }
            board.add("all", i, SETS[part], x=edges, y=[*mean, mean[-1]], **look)
        ticks = {"range": [0, 1], "title": {"text": "share of energy in the k kept directions"}}
        board.fig.update_layout(
            {
                key("x", i): ticks,
                key("y", i): {"tickformat": ".0%", "automargin": True, "rangemode": "tozero"},
            }
        )
    titles = [f"{shown(n, 26)}: {who}" for n in names for who in ("original", "retrained models")]
    return board.finish(titles, {}, height=190, wide=2)


def angles(found: Models) -> go.Figure:
    """Principal angles between the main directions of the forgotten and of the kept features,
    smallest first.
    """
    names, board = layers(found), _Board(list(_CENTERINGS))
    for panel, name in enumerate(names):
        for centering in _CENTERINGS:
            rows = [numbers(r, name, "angles", centering, "forget") for r in found.all]
            last = min(len(row) for row in rows)
            if last:
                x, look = (
                    list(range(1, last + 1)),
                    {"hovertemplate": "%{x}: %{y:.1f}°", "mode": "lines+markers"},
                )
                board.band(
                    centering,
                    panel,
                    "retrained",
                    x,
                    [r[:last] for r in rows[1:]],
                    line={"color": GREEN},
                    **look,
                )
                board.add(
                    centering,
                    panel,
                    "original",
                    x=x,
                    y=rows[0][:last],
                    line={"color": GREY},
                    **look,
                )
        board.fig.update_layout(
            {
                key("x", panel): {"title": {"text": "angle number"}, "dtick": 1},
                key("y", panel): {
                    "range": [-3, 93],
                    "dtick": 30,
                    "title": {"text": "degrees"},
                    "automargin": True,
                },
            }
        )
    return board.finish([shown(n, 40) for n in names], _CENTERINGS, height=190, wide=2)


def distances(found: Models) -> go.Figure:
    """How far samples of each set lie from the kept features: medians, with bars from the 5 % to
    the 95 % quantile.
    """
    names, board = layers(found), _Board(list(_DISTANCES))
    groups = (
        ("original", GREY, "diamond", (found.original,)),
        ("retrained", GREEN, "x", found.oracles),
    )
    for panel, name in enumerate(names):
        present = sets(found, name)
        for which in _DISTANCES:
            for j, (who, colour, symbol, records) in enumerate(groups):
                rows = [
                    [
                        numbers(r, name, "distances", which, part, length=5) or [math.nan] * 5
                        for part in present
                    ]
                    for r in records
                ]
                means = [_mean(of_set) for of_set in zip(*rows, strict=True)]
                bars = {
                    "array": [m[4] - m[2] for m in means],
                    "arrayminus": [m[2] - m[0] for m in means],
                    "thickness": 1.2,
                }
                board.add(
                    which,
                    panel,
                    who,
                    x=[i + 0.24 * j - 0.12 for i in range(len(present))],
                    y=[m[2] for m in means],
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 9},
                    error_y=bars,
                    hovertemplate="median %{y:.3f}",
                )
        ticks = {
            "tickvals": list(range(len(present))),
            "ticktext": [_folded(SETS[p]) for p in present],
            "automargin": True,
        }
        board.fig.update_layout(
            {key("x", panel): ticks, key("y", panel): {"rangemode": "tozero", "automargin": True}}
        )
    return board.finish([shown(n, 40) for n in names], _DISTANCES, height=210, wide=2, gap=110)


def similarity(found: Models) -> go.Figure:
    """CKA of retrained models with the original (full), and among each other (dotted), over the
    layers; a panel per set.
    """
    names = layers(found)
    present, board = sets(found, names[0]), _Board(["all"])
    between, across = (
        ("oracle", "retrained with retrained", GREEN, "dot"),
        ("original", "original with retrained", GREY, "solid"),
    )
    for panel, part in enumerate(present):
        for against, label, colour, dash in (between, across):
            every = [
                [number(r, name, "cka", against, part) for name in names] for r in found.oracles
            ]
            rows = [[v for v in row if v is not None] for row in every]
            if all(len(row) == len(names) for row in rows):
                look = {
                    "line": {"color": colour, "dash": dash, "width": 2},
                    "mode": "lines+markers",
                    "hovertemplate": "%{y:.3f}",
                }
                board.band("all", panel, label, list(range(len(names))), rows, **look)
        ticks = {
            "tickvals": list(range(len(names))),
            "ticktext": [shown(n, 14) for n in names],
            "tickangle": 30,
            "automargin": True,
        }
        board.fig.update_layout(
            {key("x", panel): ticks, key("y", panel): {"range": [0, 1.03], "automargin": True}}
        )
    return board.finish([SETS[p] for p in present], {}, height=190, wide=2, gap=120)


def maps(found: Models) -> go.Figure:
    """Samples in the two main directions of the kept features, the original beside the first
    retrained model; two panels per layer.
    """
    names, board = layers(found), _Board(["all"])
    pairs = [(n, r) for n in names for r in (found.original, found.oracles[0])]
    for i, (name, record) in enumerate(pairs):
        x = numbers(record, name, "map", "x")
        y = numbers(record, name, "map", "y", length=len(x))
        explained = numbers(record, name, "map", "explained", length=2) or [0.0, 0.0]
        parts, labels = (
            [str(v) for v in record.series["analysis"][name].get("map", {}).get(w, [])]
            for w in ("part", "label")
        )
        for part in sets(found, name):
            rows = [j for j in range(min(len(x), len(parts), len(labels))) if parts[j] == part]
            if rows:
                size, opacity = (5, 0.35) if part == "retain" else (7, 0.8)
                board.add(
                    "all",
                    i,
                    SETS[part],
                    x=[x[j] for j in rows],
                    y=[y[j] for j in rows],
                    mode="markers",
                    marker={
                        "color": COLOURS[part],
                        "symbol": _SYMBOLS[part],
                        "size": size,
                        "opacity": opacity,
                    },
                    text=[f"class {shown(labels[j])}" for j in rows],
                    hovertemplate="%{text}",
                )
        for letter, share in zip(("x", "y"), explained, strict=True):
            title = {"text": f"{share:.0%} of kept variance"}
            board.fig.update_layout(
                {key(letter, i): {"title": title, "showticklabels": False, "ticks": ""}}
            )
    titles = [
        f"{shown(n, 26)}: {'original' if r is found.original else 'retrained'}" for n, r in pairs
    ]
    return board.finish(titles, {}, height=260, wide=2, gap=84)


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean row; the rows have the same length."""
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def _folded(text: str) -> str:
    """Words over lines, as a label under a tick; the text is one of SETS."""
    first, _, rest = text.partition(" samples")
    return f"{first.replace(' ', '<br>')}<br>{rest.strip().replace(' classes', '')}".removesuffix(
        "<br>"
    )


Maker = Callable[[Models], go.Figure]
