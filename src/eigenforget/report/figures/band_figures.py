"""Figures of bands, relearning, layers and classes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure, HeatMap
from eigenforget.report.figures.palettes import shade_step
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.readings import band_sentence, beside
from eigenforget.report.figures.style import band_step, shown, styles
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import build, in_units, number

_HEAD = "head's input"


def has_bands(records: Sequence[RunRecord]) -> bool:
    """Whether any score stands in a band.

    It takes two retrained models, or three for scores that compare with them.
    """
    return any(cell.units is not None for row in build(records).rows for cell in row.cells.values())


def bands_figure(records: Sequence[RunRecord]) -> HeatMap:
    """Scores by models, coloured by the gap to the retrained models in half-widths of their band.

    Raises:
        RecordError: No score has a band.
    """
    table = build(records)
    every = table.shows_oracles
    rows = [r for r in table.rows if r.cells and (every or r.role != "oracle")]
    known = {n for row in rows for n, cell in row.cells.items() if cell.units is not None}
    columns = [c.name for c in table.columns if "@" not in c.name and c.name in known]
    if not columns:
        raise RecordError("no score has a band; it takes two or three retrained models")
    columns.sort(key=lambda c: GROUPS.index(group(c)))
    steps: list[list[int | None]] = [[None] * len(rows) for _ in columns]
    gaps = [[""] * len(rows) for _ in columns]
    for y, column in enumerate(columns):
        for x, row in enumerate(rows):
            cell = row.cells.get(column)
            if cell is not None and cell.units is not None and cell.value is not None:
                steps[y][x], gaps[y][x] = band_step(cell.units), in_units(cell.units)
    return HeatMap(
        [shown(r.model) for r in rows], [label(c, table) for c in columns], gaps, steps, "band"
    )


def relearning_figure(records: Sequence[RunRecord]) -> Figure:
    """Forget accuracy over relearning steps: a panel for each number of samples, a line per model.

    Raises:
        RecordError: No record has the series relearning, or one is malformed.
    """
    curves = {r.name: series.read_relearning(r) for r in series.having(records, "relearning")}
    budgets = sorted({b for c in curves.values() for b in c.curves}, key=series.natural)
    looks, titles = styles(records), [_budget(budget) for budget in budgets]
    panels = Panels(titles, height=210, columns=2)
    for i, budget in enumerate(budgets):
        for name, curve in ((n, c) for n, c in curves.items() if budget in c.curves):
            panels.add(i, name, (curve.steps, curve.curves[budget]), looks[name].both(6))
        panels.axes(
            i, Axis("steps", whole=True, reads="step"), Axis("forget accuracy", range=(-0.02, 1.02))
        )
    return panels.figure()


def has_layers(records: Sequence[RunRecord]) -> bool:
    """Whether anything was measured at further layers."""
    return bool(_at_layers(records))


def layers_figure(records: Sequence[RunRecord]) -> Figure:
    """A panel for each score at further layers, a line per model up to the input of the head.

    Raises:
        RecordError: Nothing was measured at further layers.
    """
    names = _at_layers(records)
    if not names:
        raise RecordError("no record has scores at further layers")
    stems, layers = (list(dict.fromkeys(n.partition("@")[i] for n in names)) for i in (0, 2))
    looks, titles = styles(records), [shown(label(stem), 40) for stem in stems]
    panels = Panels(titles, height=180, columns=3)
    # Numbers in the place of the layers' names, which are the same for all panels.
    ticks = {float(j): shown(n, 14) for j, n in enumerate([*layers, _HEAD])}
    for i, stem in enumerate(stems):
        for record in records:
            values: dict[str, Any] = {s.name: s.value for s in record.scores}
            line = [*(values.get(f"{stem}@{layer}") for layer in layers), values.get(stem)]
            if any(value is not None for value in line):
                panels.add(i, record.name, (range(len(line)), line), looks[record.name].both())
        panels.axes(i, Axis(ticks=ticks, tilted=True), Axis())
    return panels.figure()


def classes_figure(records: Sequence[RunRecord]) -> HeatMap:
    """Held-out accuracy of each class, a line for each class and a column for each model.

    Raises:
        RecordError: No record has the series per_class, or one is malformed.
    """
    found = series.having(records, "per_class")
    tables = [series.read_class_accuracy(r) for r in found]
    names = list(dict.fromkeys(name for t in tables for name in t))
    values = [[t.get(name) for t in tables] for name in names]
    return HeatMap(
        [shown(r.name) for r in found],
        [f"class {shown(n)}" for n in names],
        [["" if v is None else f"{v:.2f}" for v in line] for line in values],
        [[shade_step(v) for v in line] for line in values],
        "green",
    )


def bands_reading(records: Sequence[RunRecord]) -> str:
    """How many scores of the first and the last model are in the band."""
    table = build(records)
    names = [c.name for c in table.columns if "@" not in c.name]
    return band_sentence(table, names, "Scores")


def relearning_reading(records: Sequence[RunRecord]) -> str:
    """What the models get to with the most samples."""
    curves = {r.name: series.read_relearning(r) for r in series.having(records, "relearning")}
    budget = sorted({b for c in curves.values() for b in c.curves}, key=series.natural)[-1]
    ends = {name: c.curves[budget][-1] for name, c in curves.items() if budget in c.curves}
    return f"Forget accuracy after the last step {_budget(budget)}: {beside(records, ends)}."


def layers_reading(records: Sequence[RunRecord]) -> str:
    """Where the first score of layers differs most between the original and retrained models."""
    table = build(records)
    stem = _at_layers(records)[0].partition("@")[0]
    names = [n for n in _at_layers(records) if n.partition("@")[0] == stem]
    gaps = {
        name: abs(table.original[name] - table.oracles[name].mean)
        for name in names
        if name in table.original and name in table.oracles
    }
    if not gaps:
        return ""
    widest = max(gaps, key=gaps.__getitem__)
    return (
        f"Of these layers, {label(stem)} tells the original from retrained models best at"
        f" {widest.partition('@')[2]}, by {number(gaps[widest])}."
    )


def classes_reading(records: Sequence[RunRecord]) -> str:
    """The class in which an unlearned model falls farthest below the retrained models."""
    found = series.having(records, "per_class")
    tables = {r.name: series.read_class_accuracy(r) for r in found}
    retrained = [tables[r.name] for r in found if r.role == "oracle"]
    means = {
        name: fmean(values)
        for name in dict.fromkeys(name for t in retrained for name in t)
        if (values := [v for t in retrained if (v := t.get(name)) is not None])
    }
    short = {
        (r.name, name): means[name] - value
        for r in found
        if r.role == "unlearned"
        for name, value in tables[r.name].items()
        if value is not None and name in means
    }
    if not short:
        return ""
    model, name = max(short, key=short.__getitem__)
    if short[model, name] <= 0:
        return "No unlearned model is below the retrained models in any class."
    return (
        f"Of all unlearned models and classes, {model} is farthest below the retrained models in"
        f" class {name}, by {number(short[model, name])}."
    )


def _at_layers(records: Sequence[RunRecord]) -> list[str]:
    """The names of scores with a value at a further layer, each once."""
    scores = (s for r in records for s in r.scores)
    return list(dict.fromkeys(s.name for s in scores if "@" in s.name and s.value is not None))


def _budget(budget: str) -> str:
    if budget == "0":
        return "from the retain set alone"
    return f"from {shown(budget)} forget samples"


BANDS_CHART = Chart(
    "bands",
    bands_figure,
    "Every score in the retrained models' band",
    "Each cell says how far the score lies from the mean of the retrained models, in half-widths of"
    " their band: within ±1 it is what one more retrained model may have. Green: in the band."
    " Orange: above it, purple: below it. Scores without a band are left out.",
    bands_reading,
    takes=has_bands,
)
RELEARNING_CHART = Chart(
    "relearning",
    relearning_figure,
    "How fast the forget set is learned again",
    "Forget accuracy while each model trains on a few forget samples (0: on the retain set alone)."
    " The original and the retrained models are the two ends of the scale: a model that relearns"
    " faster than the retrained ones has not forgotten everything.",
    relearning_reading,
    series="relearning",
)
LAYERS_CHART = Chart(
    "layers",
    layers_figure,
    "Layer by layer",
    "The scores that read features, measured at each layer that was asked for. Where the lines of a"
    " model leave those of the retrained models, that layer still tells the forget set apart, or no"
    " longer does.",
    layers_reading,
    takes=has_layers,
)
CLASSES_CHART = Chart(
    "classes",
    classes_figure,
    "Accuracy by class",
    "On held-out samples, one line for each class and one column for each model.",
    classes_reading,
    series="per_class",
)
