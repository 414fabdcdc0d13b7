"""Figures that compare scores and models: ranks, agreement of the scores, cost against quality."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import combinations
from operator import mul
from statistics import fmean
from typing import NamedTuple

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.cost import shares
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure, HeatMap
from eigenforget.report.figures.palettes import shade_step
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.readings import counted_cell
from eigenforget.report.figures.style import PARETO, shown, styles
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import Cell, Row, Table, build, percent

MIN_MODELS = 3
"""Of fewer models an order says nothing about the score that made it."""

CLIP = 4.0
"""Half-widths at which a distance counts no further: one score must not drown the others."""

_MAX_LABELLED = 14  # with more models their names beside the marks would overlap
_JUDGED = ("unlearned", "control")
_DIGITS = 9
"""Distances that agree so far are tied: 0.5 − 0.6 and 0.7 − 0.6 differ in the last bit."""


class Ranking(NamedTuple):
    """Ranks of models under each score.

    `ranks[metric][model]` is 1 for the nearest to the retrained models, the mean of their places
    for models that are tied, and None without a value.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    ranks: list[list[float | None]]


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
    )


def tau_matrix(ranks: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Kendall's tau-b of each pair of rankings, over the models that both rank.

    None for fewer than MIN_MODELS of these, and where one side ties all of them.
    """
    below = [[_tau(one, other) for other in ranks[: i + 1]] for i, one in enumerate(ranks)]
    return [[below[max(i, j)][min(i, j)] for j in range(len(ranks))] for i in range(len(ranks))]


def can_rank(records: Sequence[RunRecord]) -> bool:
    """Whether MIN_MODELS unlearned models can be ranked under a score."""
    found, roles = ranking(records), {r.name: r.role for r in records}
    return bool(found.metrics) and sum(roles[m] == "unlearned" for m in found.models) >= MIN_MODELS


def can_compare(records: Sequence[RunRecord]) -> bool:
    """Whether there are two scores to compare by the order that they put the models in."""
    return can_rank(records) and len(ranking(records).metrics) > 1


def ranks_figure(records: Sequence[RunRecord]) -> HeatMap:
    """Scores by models, with the rank of each model; the darker, the nearer the front.

    Raises:
        RecordError: There are too few models.
    """
    if not can_rank(records):
        raise RecordError(f"ranks need {MIN_MODELS} unlearned models and a retrained one")
    found = ranking(records)
    steps = []
    for line in found.ranks:
        last = max(sum(r is not None for r in line), 2)
        steps.append([None if r is None else shade_step(1 - (r - 1) / (last - 1)) for r in line])
    return HeatMap(
        [shown(m) for m in found.models],
        [label(m) for m in found.metrics],
        [["" if r is None else f"{r:g}" for r in line] for line in found.ranks],
        steps,
        "green",
    )


def agreement_figure(records: Sequence[RunRecord]) -> HeatMap:
    """Scores by scores, with Kendall's tau of the orders that they put the models in.

    Raises:
        RecordError: There are too few models or scores.
    """
    if not can_compare(records):
        raise RecordError(
            f"comparing scores takes two of them, {MIN_MODELS} unlearned models and a retrained one"
        )
    found = ranking(records)
    names, tau = [label(m) for m in found.metrics], tau_matrix(found.ranks)
    texts = [["" if t is None else f"{t:.1f}".replace("-", "−") for t in line] for line in tau]
    steps = [[shade_step(t) for t in line] for line in tau]
    return HeatMap(names, names, texts, steps, "agreement")


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
    return bool(front_models(records))


def pareto_figure(records: Sequence[RunRecord]) -> Figure:
    """Share of retraining's cost against the distance from retrained models, a mark for each model.

    The Pareto front is that of the unlearned models.

    Raises:
        RecordError: No unlearned model has both a cost and scores with a band.
    """
    points, best = cost_and_quality(records), front_models(records)
    if not best:
        raise RecordError(
            "no unlearned model has both a cost and scores with a band of retrained models"
        )
    looks, panels = styles(records), Panels([""], height=270, columns=1)
    steps = [p.cost for p in best], [p.distance for p in best]
    panels.add(0, "Pareto front", steps, PARETO, kind="steps", listed=False)
    labelled, oracles = len(points) <= _MAX_LABELLED, 0
    for p in points:
        look = looks[p.row.model].marks(14 if p in best else 9)
        told = f"{shown(p.row.model)}: {p.words}{', on the front' if p in best else ''}"
        names = [shown(p.row.model)] if labelled else []
        if p.row.role == "oracle":  # they lie close together, so one name stands for all
            oracles += 1
            names = ["retrained models"] if oracles == 1 else []
        place = ([p.cost], [p.distance])
        listed = not labelled
        panels.add(0, p.row.model, place, look, texts=[told], labels=names, listed=listed)
    cost = Axis("share of the cost of retraining (logarithmic)", log=True, percent=True)
    panels.axes(0, cost, Axis("mean distance from retrained models, half-widths", from_zero=True))
    return panels.figure()


def front_models(records: Sequence[RunRecord]) -> list[CostAndQuality]:
    """The unlearned models on the Pareto front, cheapest first."""
    unlearned = [p for p in cost_and_quality(records) if p.row.role == "unlearned"]
    front = pareto_front([(p.cost, p.distance) for p in unlearned])
    return sorted((unlearned[j] for j in front), key=lambda p: (p.cost, p.distance))


def ranks_reading(records: Sequence[RunRecord]) -> str:
    """Which model is nearest by most scores."""
    found = ranking(records)
    first = [sum(line[i] == 1 for line in found.ranks) for i in range(len(found.models))]
    best = max(range(len(first)), key=first.__getitem__)
    return (
        f"{found.models[best]} is nearest to the retrained models by {first[best]} of"
        f" {len(found.metrics)} scores."
    )


def agreement_reading(records: Sequence[RunRecord]) -> str:
    """How far scores agree on average, and which two agree least."""
    found = ranking(records)
    tau, names = tau_matrix(found.ranks), [label(m) for m in found.metrics]
    pairs = {
        (i, j): t for j, line in enumerate(tau) for i in range(j) if (t := line[i]) is not None
    }
    if not pairs:
        return ""
    least = min(pairs, key=pairs.__getitem__)
    return (
        f"Two scores agree with τ = {fmean(pairs.values()):.2f} on average. {names[least[0]]} and"
        f" {names[least[1]]} agree least (τ = {pairs[least]:.2f})."
    )


def pareto_reading(records: Sequence[RunRecord]) -> str:
    """Which unlearned model is nearest, at what cost, and what the cheapest one gives."""
    front = front_models(records)
    cheapest, nearest = front[0], front[-1]
    told = (
        f"{nearest.row.model} is the unlearned model nearest to retrained models"
        f" ({nearest.distance:.2f} half-widths), at {percent(nearest.cost)} of their cost"
    )
    if cheapest is nearest:
        return f"{told}; no other is cheaper."
    return (
        f"{told}. {cheapest.row.model} costs {percent(cheapest.cost)}, at {cheapest.distance:.2f}."
    )


def _counts(name: str, cell: Cell) -> bool:
    return "@" not in name and cell.value is not None and cell.gap is not None


def _distance(row: Row, name: str, table: Table) -> float | None:
    cell = row.cells.get(name)
    if cell is None or cell.gap is None or not _counts(name, cell):
        return None
    # Without a band in units of the mean, so that the rounding error of the gap is one of the last
    # digits that are kept.
    far = cell.gap / max(1.0, abs(table.oracles[name].mean)) if cell.units is None else cell.units
    return float(f"{round(abs(far), _DIGITS):.{_DIGITS}g}")


def _ranked(line: Sequence[float | None]) -> list[float | None]:
    """Places from 1 on; those that are tied share the mean of theirs."""
    known = sorted(d for d in line if d is not None)
    return [None if d is None else bisect_left(known, d) + (known.count(d) + 1) / 2 for d in line]


def _order(line: Sequence[float | None]) -> list[int]:
    """For each pair of models which has the higher rank: 1, −1, or 0 for a tie or a missing one."""
    return [0 if a is None or b is None else (a > b) - (a < b) for a, b in combinations(line, 2)]


def _tau(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if len(pairs) < MIN_MODELS:
        return None
    first, second = (_order(side) for side in zip(*pairs, strict=True))
    both = math.sqrt(sum(map(abs, first)) * sum(map(abs, second)))
    return round(sum(map(mul, first, second)) / both, 6) if both else None


def cost_and_quality(records: Sequence[RunRecord]) -> list[CostAndQuality]:
    """Retrained and judged models whose cost and quality are both known.

    What a method trains on does not count for it.
    """
    costs = shares(records)
    points = []
    for row in build(records).rows:
        cells_in_bands = [
            c for n in row.cells if "@" not in n and (c := counted_cell(row, n)) is not None
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
    "1 is the model nearest to the mean of the retrained models. Models that are equally near share"
    " the mean of their places. Where the numbers of one column differ, the scores disagree about"
    " that model.",
    ranks_reading,
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
    agreement_reading,
    takes=can_compare,
    hint="It takes three unlearned models, a retrained one and two scores.",
)
PARETO_CHART = Chart(
    "pareto",
    pareto_figure,
    "Cost against distance from retrained models",
    "Down is nearer to the retrained models, left is cheaper. Distance: the mean over all scores"
    f" with a band, each counted up to {CLIP:g} half-widths. Grey line and large marks: the Pareto"
    " front, the unlearned models that no other one beats in both. Open marks: controls.",
    pareto_reading,
    takes=has_costs,
    hint="It takes bands, and the cost of an unlearned and of all retrained models on one device.",
)
