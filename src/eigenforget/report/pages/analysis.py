"""The analysis page: the paper's first observation on the user's models in words and figures, from
records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go

from eigenforget.record import RunRecord, write_text
from eigenforget.report.figures import analysis_figures as figures
from eigenforget.report.figures.chart import Chart
from eigenforget.report.pages.analysis_series import (
    SETS,
    SIGNS,
    Beside,
    Models,
    Sign,
    beside,
    layers,
    models,
    number,
    sets,
)
from eigenforget.report.pages.analysis_words import LIMITS, samples_line, settings_line, words
from eigenforget.report.pages.document import render_document
from eigenforget.report.settings import settings, spelled, statements
from eigenforget.report.verdict import MIN_SEPARATION


def _of_models(figure: Callable[[Models], go.Figure], records: Sequence[RunRecord]) -> go.Figure:
    return figure(models(records))


class SetRows(NamedTuple):
    """The numbers of one set: a row per layer, a cell per sign."""

    title: str
    rows: list[tuple[str, list[Beside]]]


class RankRow(NamedTuple):
    """Effective ranks of one set at one layer: participation and entropy of the original, and their
    means over retrained models.
    """

    layer: str
    title: str
    cells: list[tuple[float | None, float | None]]


CHARTS = (
    Chart(
        "curves",
        partial(_of_models, figures.curves),
        "Alignment over k",
        "How much of the forgotten features' energy lies in the k main directions of the kept features. Full lines: forgotten training"
        " samples, which only the original saw; dotted: held-out samples of forgotten classes, which no model saw. Green area: from the"
        " lowest to the highest retrained model. The vertical line is the k of the words above. The list switches form and centering.",
    ),
    Chart(
        "shares",
        partial(_of_models, figures.shares),
        "How much of each sample lies in the kept directions",
        "The share of one sample's feature energy that lies in the k main directions of the kept features, over samples. Left of the"
        " kept samples: the model holds directions for these samples that the kept data does not have.",
    ),
    Chart(
        "maps",
        partial(_of_models, figures.maps),
        "Where samples lie among the kept features",
        "The two main directions of the kept training features, found for each model on its own; all sets are placed in them. Where the"
        " forgotten samples scatter over the kept ones, the model has no place of their own for them.",
    ),
    Chart(
        "distances",
        partial(_of_models, figures.distances),
        "How far samples lie from the kept features",
        "Medians, with bars from the 5 % to the 95 % quantile (of retrained models: their means). To the nearest kept samples: in"
        " units of what held-out kept samples have. To the nearest mean of a kept class: in units of the mean distance between these means.",
    ),
    Chart(
        "angles",
        partial(_of_models, figures.angles),
        "Angles between forgotten and kept directions",
        "Principal angles between the 5 main directions of the forgotten features and the k main directions of the kept ones, smallest"
        " first: 0° is a shared direction, 90° one that the kept features do not have.",
    ),
    Chart(
        "spectra",
        partial(_of_models, figures.spectra),
        "Spectra",
        "Eigenvalues of the features as shares of their sum, largest first. The steeper, the fewer directions hold the features.",
    ),
    Chart(
        "similarity",
        partial(_of_models, figures.similarity),
        "Are these the same features?",
        "Linear CKA, 1 for features that are equal up to a rotation and a scale. Where the line of original and retrained models lies"
        " below the dotted one, they differ by more than retrained models differ among each other.",
    ),
)


def render_analysis(records: Sequence[RunRecord], title: str) -> str:
    """The page for these records: one original and at least one retrained model, with the series
    "analysis".

    Errors: RecordError when they are not there, were measured at different layers, or a series is
    malformed.
    """
    found = models(records)
    return render_document(
        "analysis.html.jinja",
        title=title,
        request=spelled(found.all, "request"),
        found=found,
        words=words(found),
        layers=layers(found),
        settings_line=settings_line(found),
        samples_line=samples_line(found),
        signs=SIGNS,
        tables=_tables(found),
        ranks=_ranks(found),
        drawn=[chart.draw(found.all) for chart in CHARTS],
        left_out=(),
        limits=LIMITS,
        separation=MIN_SEPARATION,
        reasons=_reasons(found),
        setup={part: settings(found.all, part) for part in ("job", "environment", "inputs")},
        non_claims=statements(found.all, "non_claims"),
    )


def write_analysis(records: Sequence[RunRecord], path: str | Path, title: str) -> Path:
    """Renders the page into a file, as a whole or not at all."""
    return write_text(path, render_analysis(records, title))


def headlines(records: Sequence[RunRecord]) -> list[str]:
    """The summary, and a line per layer, for a terminal."""
    said = words(models(records))
    return [*said.summary, *(f"{f.layer}: {f.headline}" for f in said.findings)]


def _tables(found: Models) -> list[SetRows]:
    """Numbers of all sets but the kept training samples, which are what the others are measured
    against.
    """
    tables = []
    for part in (p for p in SETS if p != "retain"):
        names = [name for name in layers(found) if part in sets(found, name)]
        if names:
            rows = [(name, [beside(found, name, part, sign) for sign in SIGNS]) for name in names]
            tables.append(SetRows(SETS[part], rows))
    return tables


def _ranks(found: Models) -> list[RankRow]:
    rows = []
    for name in layers(found):
        for part in sets(found, name):
            cells = []
            for centering in ("none", "each"):
                for kind in ("participation", "entropy"):
                    original, *others = (
                        number(r, name, "rank", centering, part, kind) for r in found.all
                    )
                    known = [v for v in others if v is not None]
                    cells.append((original, sum(known) / len(known) if known else None))
            rows.append(RankRow(name, SETS[part], cells))
    return rows


def _reasons(found: Models) -> list[str]:
    """Why numbers are missing: one line per layer, number and reason."""
    signs: dict[str, Sign] = {sign.name: sign for sign in SIGNS}
    lines = []
    for name in layers(found):
        for table_part in (p for p in sets(found, name) if p != "retain"):
            for sign in signs.values():
                value = beside(found, name, table_part, sign)
                if value.says == "":
                    lines.append(f"{sign.label} of {SETS[table_part]} at {name}: {value.reason}")
    return lines
