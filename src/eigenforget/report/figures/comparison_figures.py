"""Figures that compare scores and models: ranks, agreement of the scores, cost against quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.cost import shares
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.panels import NUMBER_WIDTH, Panels, heat_cells, heat_map
from eigenforget.report.figures.style import GREY, INSIDE, ORANGE, SKY, Style, shown, styles
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import Cell, Row, Table, build, in_units, number, percent, signed

MIN_MODELS = 3
"""Of fewer models an order says nothing about the score that made it."""

CLIP = 4.0
"""Half-widths at which a distance counts no further: one score must not drown the others."""

_MAX_NUMBERED = 12  # with more scores the cells of their agreement have no room for a number
_JUDGED = ("unlearned", "control")
_DIGITS = 9
"""Distances that agree so far are tied: 0.5 − 0.6 and 0.7 − 0.6 differ in the last bit."""


class Ranking(NamedTuple):
    """Ranks of models under each score.

    `ranks[metric][model]` is 1 for the nearest to the retrained models, the mean of their places
    for models that are tied, and None without a value. `words` says what each rank rests on.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    ranks: list[list[float | None]]
    words: list[list[str]]


class CostAndQuality(NamedTuple):
    """A model's share of the cost of retraining, and its quality.

    Quality is the share of scores in the band, and their mean distance from its middle.
    """

    row: Row
    cost: float
    inside: float
    distance: float
    words: str


def ranking(records: Sequence[RunRecord]) -> Ranking:
    """Unlearned models and controls, ranked under each score by the distance to retrained models.

    The distance is in half-widths of their band where there is one, else the gap to their mean.
    Scores at further layers are left out, and those that fewer than MIN_MODELS have.
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
    return Ranking(
        tuple(r.model for r in rows),
        tuple(found),
        [_ranked(line) for line in found.values()],
        [[_words(row, name) for row in rows] for name in found],
    )


def tau_matrix(ranks: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Kendall's tau-b of each pair of rankings, over the models that both rank.

    None for fewer than MIN_MODELS of these, and where one side ties all of them.
    """
    return [[_tau(one, other) for other in ranks] for one in ranks]


def can_rank(records: Sequence[RunRecord]) -> bool:
    """Whether MIN_MODELS unlearned models can be ranked under a score."""
    found, roles = ranking(records), {r.name: r.role for r in records}
    return bool(found.metrics) and sum(roles[m] == "unlearned" for m in found.models) >= MIN_MODELS


def can_compare(records: Sequence[RunRecord]) -> bool:
    """Whether there are two scores to compare by the order that they put the models in."""
    return can_rank(records) and len(ranking(records).metrics) > 1


def ranks_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by models, with the rank of each model; the darker, the nearer the front.

    Raises:
        RecordError: There are too few models.
    """
    if not can_rank(records):
        raise RecordError(f"ranks need {MIN_MODELS} unlearned models and a retrained one")
    found = ranking(records)
    shades: list[list[float | None]] = []
    for line in found.ranks:
        last = max(sum(r is not None for r in line), 2)
        shades.append([None if r is None else (r - 1) / (last - 1) for r in line])
    trace = heat_cells(
        shades,
        (0, 1),
        text=[["" if r is None else f"{r:g}" for r in line] for line in found.ranks],
        customdata=found.words,
        colorscale=[(0, INSIDE), (1, "#ffffff")],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<br>rank %{text}<extra></extra>",
    )
    return heat_map(trace, found.models, [shown(label(m), 34) for m in found.metrics])


def agreement_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Scores by scores, with Kendall's tau of the orders that they put the models in.

    Raises:
        RecordError: There are too few models or scores.
    """
    if not can_compare(records):
        raise RecordError(
            f"comparing scores takes two of them, {MIN_MODELS} unlearned models and a retrained one"
        )
    found = ranking(records)
    labels = [shown(label(m), 34) for m in found.metrics]
    few = len(labels) <= _MAX_NUMBERED
    trace = heat_cells(
        tau_matrix(found.ranks),
        (-1, 1),
        customdata=[[f"{one} and {other}" for other in labels] for one in labels],
        colorscale=[(0, ORANGE), (0.5, "#ffffff"), (1, SKY)],
        hoverongaps=False,
        texttemplate="%{z:.2f}" if few else "",
        hovertemplate="%{customdata}: %{z:.2f}<extra></extra>",
    )
    width = NUMBER_WIDTH if few else 10
    figure = heat_map(trace, found.metrics, labels, column_width=width, above=230)
    # The names of scores stand upright above their columns.
    return figure.update_xaxes(ticktext=[shown(label(m), 24) for m in found.metrics], tickangle=-90)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, loss) that no other beats.

    A point is beaten by one that is as good in both and better in one; equal points stand together.
    """
    return [
        i
        for i, p in enumerate(points)
        if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)
    ]


def has_costs(records: Sequence[RunRecord]) -> bool:
    """Whether both cost and quality of an unlearned model are known beside retrained models."""
    return any(p.row.role == "unlearned" for p in _points(records))


def pareto_figure(records: Sequence[RunRecord]) -> go.Figure:
    """Share of retraining's cost against quality, a dot for each model.

    The Pareto front is that of the unlearned models.

    Raises:
        RecordError: No unlearned model has both a cost and scores with a band.
    """
    points = _points(records)
    unlearned = [p for p in points if p.row.role == "unlearned"]
    if not unlearned:
        raise RecordError(
            "no unlearned model has both a cost and scores with a band of retrained models"
        )
    looks = styles(records)
    titles = ["scores in the band", "mean distance, half-widths"]
    panels = Panels(titles, height=280, columns=2, gap=84)
    # Ticks at 1, 2 and 5, where there is room for them.
    step = "D2" if max(p.cost for p in points) < 100 * min(p.cost for p in points) else 1
    # Quality, and the sign with which less of it is better.
    measures: list[tuple[Callable[[CostAndQuality], float], int]] = [
        (lambda q: q.inside, -1),
        (lambda q: q.distance, 1),
    ]
    for i, (quality, sign) in enumerate(measures):
        best = sorted(
            (unlearned[j] for j in pareto_front([(p.cost, sign * quality(p)) for p in unlearned])),
            key=lambda p: (p.cost, quality(p)),
        )
        panels.add(
            i,
            "Pareto front",
            group="front",
            x=[p.cost for p in best],
            y=[quality(p) for p in best],
            mode="lines",
            line={"color": GREY, "width": 2, "shape": "hv"},
            hoverinfo="skip",
        )
        _add_dots(panels, i, points, quality, best=best, looks=looks)
        cost: dict[str, Any] = {
            "type": "log",
            "title": {"text": "share of the cost of retraining (logarithmic)"},
            "tickformat": ".2~%",
            "dtick": step,
        }
        ends = {"range": [-0.03, 1.03], "tickformat": ".0%"} if i == 0 else {}
        panels.axes(i, cost, {"automargin": True, "rangemode": "tozero", **ends})
    return panels.figure()


def _add_dots(
    panels: Panels,
    panel: int,
    points: Sequence[CostAndQuality],
    quality: Callable[[CostAndQuality], float],
    *,
    best: Sequence[CostAndQuality],
    looks: dict[str, Style],
) -> None:
    """A dot for each model; large ones are on the front, open ones are controls."""
    for p in points:
        look, name = looks[p.row.model], shown(p.row.model)
        symbol = f"{look.symbol}-open" if p.row.role == "control" else look.symbol
        told = f"{p.words}{', on the front' if p in best else ''}"
        panels.add(
            panel,
            name,
            group=p.row.model,
            x=[p.cost],
            y=[quality(p)],
            mode="markers",
            marker={"color": look.colour, "symbol": symbol, "size": 14 if p in best else 9},
            hovertemplate=f"{name}: {told}<extra></extra>",
        )


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
    units = f", {in_units(cell.units)} half-widths" if cell.units is not None else ""
    told = f"{row.model}, {label(name)}: {number(cell.value)}, gap {signed(cell.gap)}{units}"
    return shown(told, 160)


def _ranked(line: Sequence[float | None]) -> list[float | None]:
    from scipy.stats import rankdata

    known = iter(rankdata([d for d in line if d is not None], method="average").tolist())
    return [None if d is None else float(next(known)) for d in line]


def _tau(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    sides = list(zip(*pairs, strict=True))
    if len(pairs) < MIN_MODELS or any(len(set(side)) == 1 for side in sides):
        return None
    from scipy.stats import kendalltau

    return round(float(kendalltau(*sides, variant="b").statistic), 6)


def _points(records: Sequence[RunRecord]) -> list[CostAndQuality]:
    """Retrained and judged models whose cost and quality are both known.

    What a method trains on does not count for it.
    """
    costs = shares(records)
    points = []
    for row in build(records).rows:
        cells_in_bands = [
            c
            for n, c in row.cells.items()
            if "@" not in n and c.units is not None and n not in row.optimises
        ]
        if row.role == "original" or row.model not in costs or not cells_in_bands:
            continue
        count, cost = len(cells_in_bands), costs[row.model].value
        inside = sum(c.verdict == "in" for c in cells_in_bands)
        distance = sum(min(abs(c.units or 0.0), CLIP) for c in cells_in_bands) / count
        words = (
            f"{percent(cost)} of retraining, {inside} of {count} scores in the band,"
            f" mean distance {distance:.2f}"
        )
        points.append(CostAndQuality(row, cost, inside / count, distance, words))
    return points


RANKS_CHART = Chart(
    "ranks",
    ranks_figure,
    "Which model is nearest, by which score",
    "1 is the model nearest to the mean of the retrained models; models that are equally near share"
    " the mean of their places. Where the numbers of one column differ, the scores disagree about"
    " that model.",
    takes=can_rank,
    hint="It takes three unlearned models and a retrained one.",
)
AGREEMENT_CHART = Chart(
    "agreement",
    agreement_figure,
    "Which scores agree about the models",
    "Kendall's tau of the orders above, for each pair of scores. Blue, up to 1: both put the models"
    " in the same order. Orange, down to −1: in the opposite order. White: the one says nothing"
    " about the other. Empty: all are tied, or fewer than three models have both scores. With"
    " fewer than six models, all but complete agreement may be chance.",
    takes=can_compare,
    hint="It takes three unlearned models, a retrained one and two scores.",
)
PARETO_CHART = Chart(
    "pareto",
    pareto_figure,
    "Cost against quality",
    "Cost in processor time where the model and the retrained models know theirs, else in wall"
    " time. Left: share of scores in the retrained models' band, more is better; right: mean"
    " distance from the middle of the band, where a score counts at most four half-widths, less is"
    " better. Grey line and large marks: the Pareto front, the unlearned models that no other one"
    " beats in cost and quality at once. Open marks: controls, which are never on it. Scores that"
    " a method trains on do not count for it; models of unknown cost are left out.",
    takes=has_costs,
    hint="It takes bands, and the cost of an unlearned and of all retrained models on one device.",
)
