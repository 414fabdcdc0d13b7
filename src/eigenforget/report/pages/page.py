"""The report as one HTML file: everything inlined, nothing fetched, the same bytes for the same
records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from eigenforget.record import RunRecord, in_force, write_text
from eigenforget.report.checks import checks
from eigenforget.report.figures import (
    attack_figures,
    band_figures,
    comparison_figures,
    confusion_figures,
)
from eigenforget.report.figures import overview as figures
from eigenforget.report.glossary import GROUPS, group, label, meaning, unit
from eigenforget.report.settings import settings, spelled, statements
from eigenforget.report.table import (
    Column,
    Table,
    build,
    evaluated,
    in_units,
    number,
    percent,
    signed,
)
from eigenforget.report.verdict import (
    ACCURACY_TOLERANCE,
    MIN_SEPARATION,
    NEAR,
    STRONG,
    limits,
    verdicts,
)

_HERE = Path(__file__).parent
_WIDEST = 7
"""Scores of one table: more do not fit the width of a sheet."""


class Chart(NamedTuple):
    """A figure of the page: where its numbers are in a record, how it is made, what it shows, why
    it may be missing.

    when: what it takes, if not the series. hint: how to come by what is missing.
    """

    id: str
    series: str
    make: Callable[[Sequence[RunRecord]], go.Figure]
    title: str
    caption: str
    when: Callable[[Sequence[RunRecord]], bool] | None = None
    hint: str = ""


class Drawn(NamedTuple):
    chart: Chart
    alt: str
    height: int
    width: int
    choices: list[str]
    json: Markup


CHARTS = (
    Chart(
        "bands",
        "",
        band_figures.heatmap,
        "Every score in the retrained models' band",
        "Each cell says how far the score lies from the mean of the retrained models, in halves of their band: within ±1 it is what one"
        " more retrained model may have. Green: in the band. Orange: above it, purple: below it. Scores without a band are left out.",
        when=band_figures.has_bands,
    ),
    Chart(
        "metrics",
        "",
        figures.metric_dots,
        "The first scores, every model",
        "Line: mean of the retrained models; band: where one more of them would lie with 95 %. Bars: 95 % intervals.",
    ),
    Chart(
        "ranks",
        "",
        comparison_figures.ranks,
        "Which model is nearest, by which score",
        "1 is the model nearest to the mean of the retrained models; models as near as each other share the mean of their places. Where"
        " the numbers of one column differ, the scores disagree about that model.",
        when=comparison_figures.can_rank,
        hint="It takes three unlearned models and a retrained one.",
    ),
    Chart(
        "agreement",
        "",
        comparison_figures.agreements,
        "Which scores agree about the models",
        "Kendall's tau of the orders above, for each pair of scores. Blue, up to 1: both put the models in the same order. Orange, down"
        " to −1: in the opposite order. White: the one says nothing about the other. Empty: all are tied, or fewer than three"
        " models have both scores. With fewer than six models, all but complete agreement may be chance.",
        when=comparison_figures.can_compare,
        hint="It takes three unlearned models, a retrained one and two scores.",
    ),
    Chart(
        "pareto",
        "",
        comparison_figures.pareto,
        "Cost against quality",
        "Cost in processor time where all retrained models know theirs, else in wall time. Left: share of scores in the retrained models'"
        " band, more is better; right: mean distance from the middle of the band, a score counted up to four halves, less is better."
        " Grey line and large marks: the Pareto front, the unlearned models that no other one beats in cost and quality at once."
        " Open marks: controls, which are never on it. Scores that a method trains on do not count for it; models of unknown cost"
        " are left out.",
        when=comparison_figures.has_costs,
        hint="It takes the cost of an unlearned and of all retrained models, made on one device, and bands.",
    ),
    Chart(
        "relearning",
        "relearning",
        band_figures.relearning,
        "How fast the forgotten comes back",
        "Accuracy on the forgotten while each model trains on a few forgotten samples (0: on kept data alone). The original and the"
        " retrained models are the two anchors: a model that relearns faster than the retrained ones has kept something.",
    ),
    Chart(
        "roc",
        "mia_roc",
        attack_figures.roc,
        "What a membership attack finds, by the false alarms it makes",
        "The attack calls members the forgotten samples with the lowest loss. On the dotted line it guesses; what matters is how far above"
        " it a curve lies on the left, where it is almost always right. Marks: at 0.1, 1 and 10 % false alarms, where there are"
        " samples enough. Zero has no place on these axes: a line begins where the first member is found and the first false alarm is"
        " made, which is at the earliest one in the number of samples.",
    ),
    Chart(
        "layers",
        "",
        band_figures.layers,
        "Layer by layer",
        "What reads features, measured at each layer that was asked for. Where the lines of a model leave those of the retrained"
        " models, that layer still tells the forgotten apart, or no longer does.",
        when=band_figures.has_layers,
    ),
    Chart(
        "classes",
        "per_class",
        band_figures.classes,
        "Accuracy by class",
        "On held-out samples, one row per class and one column per model.",
    ),
    Chart(
        "confusion",
        "confusion",
        confusion_figures.confusion,
        "What each class is called",
        "Of the held-out samples of each class (rows), the share that the model calls each class (columns). Framed: forgotten classes."
        " Retrained models show where their samples go when nothing about them was learned.",
    ),
    Chart(
        "da-curve",
        "da_curve",
        figures.da_curves,
        "Dimensional alignment over k",
        "Where the curves of original and retrained models part, DA can tell them apart. The dotted line is the k of"
        " the table. The list above switches the form and the centering.",
    ),
    Chart(
        "maps",
        "pca",
        figures.feature_maps,
        "Where held-out samples lie in feature space",
        "The two main directions of each model's own features. In a retrained model the forgotten samples scatter"
        " over the other classes; a cluster of their own means that the features still know them.",
    ),
    Chart(
        "maps-tsne",
        "tsne",
        partial(figures.feature_maps, kind="tsne"),
        "Feature maps by t-SNE",
        "The same samples, placed so that neighbours stay neighbours. Only who lies next to whom can be read here: sizes of clusters and"
        " distances between them mean nothing, and each model has a map of its own.",
        hint="Evaluate with --map tsne to have it.",
    ),
    Chart(
        "maps-umap",
        "umap",
        partial(figures.feature_maps, kind="umap"),
        "Feature maps by UMAP",
        "As above, by another way to keep neighbours together; distances between clusters say little here too.",
        hint="Evaluate with --map umap to have it.",
    ),
    Chart(
        "spectra",
        "spectrum",
        figures.spectra,
        "Spectra of the features",
        "Eigenvalues of the feature matrices, largest first, as shares of their sum.",
    ),
    Chart(
        "trace",
        "trace",
        figures.training_trace,
        "How training went",
        "Loss per training epoch; each phase has its own, so only lines within a panel compare. DA and accuracies, where they were looked"
        " at, are those after each epoch, on a few hundred training samples of each side: they show the course and are no scores.",
    ),
)


def render(records: Sequence[RunRecord], title: str) -> str:
    """The page for these records, of which the evaluate ones are the models; other kinds are listed
    with their digests.

    Errors: RecordError when there is no evaluate record, two share a name, or a series or a field
    that a check reads is malformed.
    """
    table, models = build(records), evaluated(records)
    present = [c for c in CHARTS if _has(c, models)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, signed=signed, percent=percent, label=label, meaning=meaning, unit=unit
    )
    environment.filters["in_units"] = in_units
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.jinja").render(
        title=title,
        table=table,
        groups=_groups(table),
        records=records,
        corrected=len(records) - len(in_force(records)),
        lead=_lead(table, models),
        verdicts=verdicts(table),
        limits=limits(table),
        notes=_notes(table),
        drawn=[_drawn(c, models) for c in present],
        left_out=[_absent(c) for c in CHARTS if c not in present],
        setup={part: settings(models, part) for part in ("job", "environment", "inputs")},
        claims=statements(models, "claims"),
        non_claims=statements(models, "non_claims"),
        rules={
            "tolerance": ACCURACY_TOLERANCE,
            "separation": MIN_SEPARATION,
            "near": NEAR,
            "strong": f"{STRONG:.0f}",
        },
        checks=checks(records),
        css=_inline("page.css"),
        js=_inline("page.js"),
        plotly=Markup(get_plotlyjs()),
    )


def write_page(records: Sequence[RunRecord], path: str | Path, title: str) -> Path:
    """Renders the page into a file, as a whole or not at all."""
    return write_text(path, render(records, title))


def _has(chart: Chart, models: Sequence[RunRecord]) -> bool:
    if chart.when is not None:
        return chart.when(models)
    if not chart.series:
        return any(s.value is not None for r in models for s in r.scores)
    return any(r.series.get(chart.series) for r in models)


def _absent(chart: Chart) -> str:
    hint = f" {chart.hint}" if chart.hint else ""
    if chart.when is not None:
        return f"“{chart.title}” is left out: the records do not hold what it needs.{hint}"
    what = f"the series “{chart.series}”" if chart.series else "a score with a value"
    return f"“{chart.title}” is left out: no record has {what}.{hint}"


def _drawn(chart: Chart, models: Sequence[RunRecord]) -> Drawn:
    figure = chart.make(models)
    names = ", ".join(r.name for r in models if not chart.series or r.series.get(chart.series))
    # The plain json engine, so that the bytes do not depend on whether a faster one is installed.
    # It escapes < and >.
    text = plotly.io.to_json(figure, engine="json")
    alt = f"Chart: {chart.title}. Models: {names}. {chart.caption}"
    # A figure that does not fold says from which width on it can be read; below it scrolls.
    meta = figure.layout.meta or {}
    choices = [choice["label"] for choice in meta.get("choices", ())]
    return Drawn(
        chart,
        alt,
        int(figure.layout.height),
        int(meta.get("least_width", 0)),
        choices,
        Markup(text),
    )


def _groups(table: Table) -> list[tuple[str, list[Column]]]:
    """The groups of scores that some model has, each in tables that fit a sheet of paper; the notes
    below say why others are not there.

    Without any score one group without columns, so that every model is listed with its status.
    """
    had = {name for row in table.rows for name, cell in row.cells.items() if cell.value is not None}
    parts = []
    for name in GROUPS:
        columns = [c for c in table.columns if group(c.name) == name and c.name in had]
        count = -(-len(columns) // _WIDEST)
        for i in range(count):
            own = columns[len(columns) * i // count : len(columns) * (i + 1) // count]
            parts.append((name if i == 0 else f"{name}, continued", own))
    return parts or [("models", [])]


def _lead(table: Table, models: Sequence[RunRecord]) -> str:
    counts = {
        role: sum(row.role == role for row in table.rows)
        for role in ("oracle", "unlearned", "control")
    }
    judged = counts["unlearned"] + counts["control"]
    words = [_count(judged, "model is judged", "models are judged")]
    words.append(f"against {_count(counts['oracle'], 'retrained model', 'retrained models')}")
    request = spelled(models, "request")
    return (
        " ".join(words)
        + (f". The request: {request}" if request else "")
        + "."
        + _observation(table)
    )


def _observation(table: Table) -> str:
    """The paper's first observation on these models, in words: where the features of data lie that
    a model never saw.
    """
    seen, unseen = table.original.get("da"), table.reference.get("da")
    if seen is None or unseen is None:
        return ""
    values = f"{number(seen)} in the original, which saw the forgotten data, and {number(unseen.mean)} in the retrained models"
    text = f" Dimensional alignment of forgotten with kept training features is {values}"
    margin = max(unseen.spread, MIN_SEPARATION)
    if seen < unseen.low - margin:
        return f"{text}: data that a model never saw lies closer to the features of the data that it saw."
    if seen > unseen.high + margin:
        return f"{text}: here, unlike in the paper, the data that was never seen lies farther away."
    return f"{text}: too near each other to tell, so alignment carries no signal for this request."


def _notes(table: Table) -> list[dict[str, Any]]:
    """Why cells are empty: one line per metric and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for name, cell in row.cells.items():
            if cell.value is None:
                found.setdefault((name, cell.reason), []).append(row.model)
    return [
        {"metric": name, "reason": reason, "models": ", ".join(who)}
        for (name, reason), who in found.items()
    ]


def _breakable(name: str) -> Markup:
    """The name, escaped, with leave to break lines after underscores."""
    return Markup(escape(name).replace("_", Markup("_<wbr>")))


def _count(n: int, one: str, many: str) -> str:
    return f"{'no' if n == 0 else n} {one if n == 1 else many}"


def _inline(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))
