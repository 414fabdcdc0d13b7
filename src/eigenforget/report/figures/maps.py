"""Feature maps: where held-out samples lie, with the forget set marked."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.readings import beside, judged_first
from eigenforget.report.figures.style import FORGET, GREY, Style, shown

MOST_CHOICES = 12
"""Judged models of a map, beside the original and a retrained one; more would make a large page."""

MAP_NEIGHBOURS = 10
"""Nearest samples on the map that are asked whether they are forget samples."""

_MOST_ASKED = 200  # forget samples: enough for a share, and quick for maps of thousands
_OTHERS = Style(GREY, "circle", size=4.0, opacity=0.45)
_MOST_NAMED = 20  # classes: more names would hide the samples
_WORDS = Style(GREY)
_FORGET = "forget set"


def maps_figure(records: Sequence[RunRecord], *, kind: str = "pca") -> Figure:
    """Held-out samples in two dimensions: the original, an unlearned and a retrained model.

    × marks the forget set's classes, numbers stand at the medians of the other classes. The reader
    chooses the unlearned model or control, of the first MOST_CHOICES.

    Args:
        records: Evaluate records.
        kind: The series: pca, tsne or umap.

    Raises:
        RecordError: No record has the series, or one is malformed.
    """
    before, judged, after = map_models(records, kind)
    columns = [*before, *judged[:1], *after]
    choices = {r.name: shown(r.name, 60) for r in judged}
    panels = Panels([_title(r) for r in columns], height=290, columns=3, choices=choices)
    for i, record in enumerate(columns):
        chosen = judged if record in judged else [record]
        for one in chosen:
            choice = one.name if one in judged else ""
            found = series.read_feature_map(one, kind)
            panels.title(i, _title(one), choice=choice)
            _draw(panels, i, found, choice)
            panels.axes(i, _bare(found, 0), _bare(found, 1), choice=choice)
    return panels.figure()


class MapModels(NamedTuple):
    """The models of a map: at most one original, those to choose from, at most one retrained."""

    before: list[RunRecord]
    judged: list[RunRecord]
    after: list[RunRecord]


def map_models(records: Sequence[RunRecord], kind: str) -> MapModels:
    """The models with the series.

    Raises:
        RecordError: There is none.
    """
    having = [r.name for r in series.having(records, kind)]
    before, after = (
        [r for r in records if r.role == role and r.name in having][:1]
        for role in ("original", "oracle")
    )
    judged = [r for r in judged_first(records) if r.name in having]
    return MapModels(before, judged[:MOST_CHOICES], after)


def maps_reading(records: Sequence[RunRecord], *, kind: str = "pca") -> str:
    """Whether forget samples lie among themselves: of their neighbours, the share of their kind."""
    before, judged, after = map_models(records, kind)
    maps = {r.name: series.read_feature_map(r, kind) for r in (*before, *judged[:1], *after)}
    if not any(any(found.forget) for found in maps.values()):
        return "None of these samples is of the forget set: the map shows the classes alone."
    asked = {name: _among_themselves(found) for name, found in maps.items()}
    shares = {name: share for name, share in asked.items() if share is not None}
    if not shares:
        return ""
    told = beside(records, shares, lambda share: f"{100 * share:.0f}%")
    return (
        f"Of the {MAP_NEIGHBOURS} samples nearest to a forget sample on the map, {told} are forget"
        " samples too."
    )


def _among_themselves(found: series.FeatureMap) -> float | None:
    """The mean share of forget samples among the MAP_NEIGHBOURS nearest of a forget sample."""
    mine = [j for j, forget in enumerate(found.forget) if forget][:_MOST_ASKED]
    if len(found.x) <= MAP_NEIGHBOURS or not mine:
        return None
    shares = []
    for j in mine:
        far = (
            (math.hypot(found.x[i] - found.x[j], found.y[i] - found.y[j]), i)
            for i in range(len(found.x))
            if i != j
        )
        shares.append(sum(found.forget[i] for _, i in heapq.nsmallest(MAP_NEIGHBOURS, far)))
    return statistics.fmean(shares) / MAP_NEIGHBOURS


def _draw(panels: Panels, panel: int, found: series.FeatureMap, choice: str) -> None:
    """The retained samples in one pale grey, the names of their classes, and the forget set."""
    rows = range(len(found.x))
    others, mine = ([j for j in rows if found.forget[j] == side] for side in (False, True))
    classes = sorted({found.label[j] for j in others}, key=series.natural)
    of = {c: [j for j in others if found.label[j] == c] for c in classes}
    panels.add(panel, "retained classes", ([], []), _OTHERS, choice=choice)
    for c in classes:
        places = _places(found, of[c])
        panels.add(panel, f"class {c}", places, _OTHERS, choice=choice, listed=False)
    if mine:
        told = [f"{shown(found.id[j], 60)}, class {shown(found.label[j])}" for j in mine]
        look = FORGET.marks(8)
        panels.add(panel, _FORGET, _places(found, mine), look, choice=choice, texts=told)
    if len(classes) > _MOST_NAMED:
        return
    x, y = (
        [statistics.median(axis[j] for j in of[c]) for c in classes] for axis in (found.x, found.y)
    )
    names = [shown(c, 12) for c in classes]
    panels.add(panel, "names", (x, y), _WORDS, choice=choice, labels=names, listed=False)


def _places(found: series.FeatureMap, rows: Sequence[int]) -> tuple[list[float], list[float]]:
    return [found.x[j] for j in rows], [found.y[j] for j in rows]


def _title(record: RunRecord) -> str:
    kind = "retrained" if record.role == "oracle" else record.role
    return shown(record.name) + (f" ({kind})" if record.name != kind else "")


def _bare(found: series.FeatureMap, direction: int) -> Axis:
    """Only principal directions have a share of the variance; other axes mean nothing alone."""
    if found.explained is None:
        return Axis(ticks={})
    return direction_axis(direction, found.explained[direction])


def direction_axis(direction: int, share: float) -> Axis:
    """The axis of a principal direction, counted from 0, with its share of the variance."""
    return Axis(f"direction {direction + 1} ({share:.0%} of variance)", ticks={})


MAPS_CHART = Chart(
    "maps",
    maps_figure,
    "Where held-out samples lie in feature space",
    "Each panel shows the two main directions of that model's own features. Numbers name the"
    " retained classes. A cluster of × means that the features still know the forget set.",
    maps_reading,
    series="pca",
)
TSNE_CHART = Chart(
    "maps-tsne",
    partial(maps_figure, kind="tsne"),
    "Feature maps by t-SNE",
    "The same samples, placed so that neighbours stay neighbours. Sizes of clusters and distances"
    " between them mean nothing.",
    partial(maps_reading, kind="tsne"),
    series="tsne",
    hint="Evaluate with --map tsne to have it.",
)
UMAP_CHART = Chart(
    "maps-umap",
    partial(maps_figure, kind="umap"),
    "Feature maps by UMAP",
    "As t-SNE, by another way to keep neighbours together.",
    partial(maps_reading, kind="umap"),
    series="umap",
    hint="Evaluate with --map umap to have it.",
)
