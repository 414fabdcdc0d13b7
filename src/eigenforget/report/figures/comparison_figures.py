"""Figures that compare measures and models: ranks under each score, agreement of the scores, cost
against quality.

Errors: RecordError when the records do not have what a figure needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go
from scipy import stats

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.cost import shares
from eigenforget.report.figures.band_figures import COLUMN, INSIDE, named
from eigenforget.report.figures.style import (
    GREY,
    ORANGE,
    SKY,
    Panels,
    axis,
    dress,
    key,
    lay_out,
    shown,
    styles,
    title_panels,
)
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import Cell, Row, Table, build, in_units, number, percent, signed

MIN_MODELS = 3
"""Of fewer models an order says nothing about the score that made it."""

CLIP = 4.0
"""Halves of the band at which a distance counts no further, so that one score does not drown the
others.
"""

_NUMBERED = 12
"""With more scores the cells of their agreement have no room for a number."""
_JUDGED = ("unlearned", "control")
_DIGITS = 9
"""Distances that agree to so many digits are tied: 0.5 − 0.6 and 0.7 − 0.6 differ in the last bit.
"""


class Ranking(NamedTuple):
    """ranks[metric][model]: 1 is nearest to the retrained models, the mean of the places for models
    that are tied, None without a value.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    ranks: list[list[float | None]]
    words: list[list[str]]


class Spent(NamedTuple):
    """A model, its share of the cost of retraining, and its quality: share of scores in the band,
    and their mean distance from it.
    """

    row: Row
    cost: float
    inside: float
    distance: float
    words: str


def ranking(records: Sequence[RunRecord]) -> Ranking:
    """Unlearned models and controls, ranked under each score by the distance to the retrained
    models.

    The distance is in halves of their band where there is one, else the gap to their mean. Scores
    at further layers are left out.
    """
    table = build(records)
    rows = [
        r
        for r in table.rows
        if r.role in _JUDGED and any(_counts(name, cell) for name, cell in r.cells.items())
    ]
    found: dict[str, list[float | None]] = {}
    for column in sorted(table.columns, key=lambda c: GROUPS.index(group(c.name))):
        line = [_distance(row, column.name, table) for row in rows]
        if sum(d is not None for d in line) >= MIN_MODELS:
            found[column.name] = line
    words = [[_words(row, name) for row in rows] for name in found]
    return Ranking(
        tuple(r.model for r in rows),
        tuple(found),
        [_ranked(line) for line in found.values()],
        words,
    )


def agreement(ranks: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Kendall's tau-b of each pair of rankings, over the models that both rank.

    None for fewer than 3 of these, and where one side ties all of them.
    """
    return [[_tau(one, other) for other in ranks] for one in ranks]


def can_rank(records: Sequence[RunRecord]) -> bool:
    """Whether there are three unlearned models, and a score under which three models can be ranked."""
    found, roles = ranking(records), {r.name: r.role for r in records}
    return bool(found.metrics) and sum(roles[m] == "unlearned" for m in found.models) >= MIN_MODELS


def can_compare(records: Sequence[RunRecord]) -> bool:
    """Whether there are two scores to compare by the order that they put the models in."""
    return can_rank(records) and len(ranking(records).metrics) > 1


def ranks(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by models, with the rank of each model under each score; the darker, the nearer the
    front.
    """
    if not can_rank(records):
        raise RecordError(f"ranks need {MIN_MODELS} unlearned models and a retrained one")
    found = ranking(records)
    shades: list[list[float | None]] = []
    for line in found.ranks:
        last = max(sum(r is not None for r in line), 2)
        shades.append([None if r is None else (r - 1) / (last - 1) for r in line])
    texts = [["" if r is None else f"{r:g}" for r in line] for line in found.ranks]
    cells = go.Heatmap(
        z=shades,
        text=texts,
        customdata=found.words,
        zmin=0,
        zmax=1,
        colorscale=[(0, INSIDE), (1, "#ffffff")],
        showscale=False,
        xgap=1,
        ygap=1,
        texttemplate="%{text}",
        textfont={"size": 11, "color": "#111111"},
        hovertemplate="%{customdata}<br>rank %{text}<extra></extra>",
    )
    return named(go.Figure(cells), found.models, [shown(label(m), 34) for m in found.metrics])


def agreements(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by scores, with Kendall's tau of the orders that they put the models in."""
    if not can_compare(records):
        raise RecordError(
            f"to compare scores takes two of them, {MIN_MODELS} unlearned models and a retrained one"
        )
    found = ranking(records)
    labels = [shown(label(m), 34) for m in found.metrics]
    few = len(labels) <= _NUMBERED
    cells = go.Heatmap(
        z=agreement(found.ranks),
        customdata=[[f"{one} and {other}" for other in labels] for one in labels],
        zmin=-1,
        zmax=1,
        colorscale=[(0, ORANGE), (0.5, "#ffffff"), (1, SKY)],
        showscale=False,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        texttemplate="%{z:.2f}" if few else "",
        textfont={"size": 11, "color": "#111111"},
        hovertemplate="%{customdata}: %{z:.2f}<extra></extra>",
    )
    # The names of scores stand upright above their columns.
    fig = named(go.Figure(cells), found.metrics, labels, column=COLUMN if few else 10, around=230)
    return fig.update_xaxes(ticktext=[shown(label(m), 24) for m in found.metrics], tickangle=-90)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, loss) that no other beats: none is as good in both and better in
    one. Equal points stand together.
    """
    return [
        i
        for i, p in enumerate(points)
        if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)
    ]


def has_costs(records: Sequence[RunRecord]) -> bool:
    """Whether of an unlearned model both are known, its cost beside that of retraining, and its
    place in the retrained models' bands.
    """
    return any(p.row.role == "unlearned" for p in _points(records))


def pareto(records: Sequence[RunRecord]) -> go.Figure:
    """Share of retraining's cost against quality, a dot per model; the Pareto front is that of the
    unlearned models.
    """
    points = _points(records)
    unlearned = [p for p in points if p.row.role == "unlearned"]
    if not unlearned:
        raise RecordError(
            "no unlearned model has both a cost and scores with a band of retrained models"
        )
    looks, fig = styles(records), go.Figure()
    # Ticks at 1, 2 and 5, where there is room for them.
    step = "D2" if max(p.cost for p in points) < 100 * min(p.cost for p in points) else 1
    # Quality, and the sign with which less of it is better.
    measures: list[tuple[Callable[[Any], float], int]] = [
        (lambda q: q.inside, -1),
        (lambda q: q.distance, 1),
    ]
    for i, (quality, sign) in enumerate(measures):
        place = {"xaxis": axis("x", i), "yaxis": axis("y", i)}
        best = sorted(
            (unlearned[j] for j in front([(p.cost, sign * quality(p)) for p in unlearned])),
            key=lambda p: (p.cost, quality(p)),
        )
        fig.add_scatter(
            x=[p.cost for p in best],
            y=[quality(p) for p in best],
            mode="lines",
            name="Pareto front",
            legendgroup="front",
            showlegend=i == 0,
            line={"color": GREY, "width": 2, "shape": "hv"},
            hoverinfo="skip",
            **place,
        )
        for p in points:
            look, name = looks[p.row.model], shown(p.row.model)
            symbol = f"{look.symbol}-open" if p.row.role == "control" else look.symbol
            fig.add_scatter(
                x=[p.cost],
                y=[quality(p)],
                mode="markers",
                name=name,
                legendgroup=p.row.model,
                showlegend=i == 0,
                marker={"color": look.colour, "symbol": symbol, "size": 14 if p in best else 9},
                hovertemplate=f"{name}: {p.words}{', on the front' if p in best else ''}<extra></extra>",
                **place,
            )
        cost = {
            "type": "log",
            "title": {"text": "share of the cost of retraining (logarithmic)"},
            "tickformat": ".2~%",
            "dtick": step,
        }
        fig.update_layout(
            {key("x", i): cost, key("y", i): {"automargin": True, "rangemode": "tozero"}}
        )
    fig.update_layout(yaxis={"range": [-0.03, 1.03], "tickformat": ".0%"})
    dress(fig, height=400)
    title_panels(fig, ["scores in the band", "mean distance, halves of the band"])
    return lay_out(fig, Panels(2, 280, entries=len(points) + 1, gap=84), wide=2)


def _counts(name: str, cell: Cell) -> bool:
    return "@" not in name and cell.value is not None and cell.gap is not None


def _distance(row: Row, name: str, table: Table) -> float | None:
    cell = row.cells.get(name)
    if cell is None or cell.gap is None or not _counts(name, cell):
        return None
    # Without a band in units of the mean, so that the rounding error of the gap is one of the last
    # digits that are kept.
    far = cell.gap / max(1.0, abs(table.reference[name].mean)) if cell.units is None else cell.units
    return float(f"{round(abs(far), _DIGITS):.{_DIGITS}g}")


def _words(row: Row, name: str) -> str:
    cell = row.cells.get(name)
    if cell is None or cell.value is None or cell.gap is None:
        return ""
    units = f", {in_units(cell.units)} halves of the band" if cell.units is not None else ""
    return shown(
        f"{row.model}, {label(name)}: {number(cell.value)}, gap {signed(cell.gap)}{units}", 160
    )


def _ranked(line: Sequence[float | None]) -> list[float | None]:
    known = iter(stats.rankdata([d for d in line if d is not None], method="average").tolist())
    return [None if d is None else float(next(known)) for d in line]


def _tau(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    sides = list(zip(*pairs, strict=True))
    if len(pairs) < MIN_MODELS or any(len(set(side)) == 1 for side in sides):
        return None
    return round(float(stats.kendalltau(*sides, variant="b").statistic), 6)


def _points(records: Sequence[RunRecord]) -> list[Spent]:
    """Retrained and judged models whose cost and quality are both known. What a method trains on
    does not count for it.
    """
    costs = shares(records)
    points = []
    for row in build(records).rows:
        told = {
            n: c.units
            for n, c in row.cells.items()
            if "@" not in n and c.units is not None and n not in row.optimises
        }
        if row.role == "original" or row.model not in costs or not told:
            continue
        far = [abs(units) for units in told.values()]
        inside = sum(row.cells[name].verdict == "in" for name in told)
        distance = sum(min(d, CLIP) for d in far) / len(far)
        share = costs[row.model].value
        words = f"{percent(share)} of retraining, {inside} of {len(far)} scores in the band, mean distance {distance:.2f}"
        points.append(Spent(row, share, inside / len(far), distance, words))
    return points
