"""The analysis page: the paper's first observation on the user's models, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.core.text import counted
from eigenforget.record import RunRecord, write_text
from eigenforget.report.figures.analysis_figures import ANALYSIS_PICTURES, FURTHER_ANALYSIS
from eigenforget.report.figures.analysis_series import (
    INDICATORS,
    MIN_SEPARATION,
    SETS,
    AnalysisRecords,
    Contrast,
    analysis_records,
    read_number,
)
from eigenforget.report.glossary import GLOSSARY_TERMS
from eigenforget.report.pages.analysis_words import (
    LIMITS,
    analysis_words,
    layers_line,
    samples_line,
)
from eigenforget.report.pages.document import render_document
from eigenforget.report.settings import settings, spelled, statements


class SetTable(NamedTuple):
    """The numbers of one set: a row for each layer, a cell for each indicator."""

    title: str
    rows: list[tuple[str, list[Contrast]]]


class RankRow(NamedTuple):
    """Effective ranks of one set at one layer, of the original and the mean of retrained models."""

    layer: str
    title: str
    cells: list[tuple[float | None, float | None]]


def render_analysis(records: Sequence[RunRecord], title: str) -> str:
    """The page for these records.

    Args:
        records: Those of one original and of at least one retrained model, with the series
            "analysis".
        title: The heading.

    Raises:
        RecordError: They are not there, were measured at different layers, or a series is
            malformed.
    """
    found = analysis_records(records)
    return render_document(
        "analysis.html.jinja",
        title=title,
        lead=_lead(found),
        records=found.all,
        corrected=0,
        found=found,
        words=analysis_words(found),
        settings_line=layers_line(found),
        samples_line=samples_line(found),
        indicators=INDICATORS.values(),
        tables=_tables(found),
        ranks=_ranks(found),
        pictures=[chart.draw(found.all) for chart in ANALYSIS_PICTURES],
        further=[chart.draw(found.all) for chart in FURTHER_ANALYSIS],
        terms=GLOSSARY_TERMS,
        limits=LIMITS,
        separation=MIN_SEPARATION,
        reasons=_reasons(found),
        setup={part: settings(found.all, part) for part in ("job", "environment", "inputs")},
        non_claims=statements(found.all, "non_claims"),
    )


def _lead(found: AnalysisRecords) -> str:
    count, request = len(found.oracles), spelled(found.all, "request")
    models = counted(count, "retrained model", "retrained models")
    asked = f" The request: {request}." if request else ""
    return (
        "Do features of data that a model never saw lie nearer to the features of the data that it"
        f" saw? The original saw the forget set; {models} never did.{asked}"
    )


def write_analysis(records: Sequence[RunRecord], path: str | Path, title: str) -> Path:
    """Renders the page into a file, as a whole or not at all."""
    return write_text(path, render_analysis(records, title))


def headlines(records: Sequence[RunRecord]) -> list[str]:
    """The summary, and a line for each layer, for a terminal."""
    said = analysis_words(analysis_records(records))
    return [*said.summary, *(f"{f.layer}: {f.headline}" for f in said.findings)]


def _tables(found: AnalysisRecords) -> list[SetTable]:
    """Numbers of all sets but the retain set, which the others are measured against."""
    tables = []
    for part in (p for p in SETS if p != "retain"):
        rows = [
            (name, [found.contrast(name, part, i) for i in INDICATORS.values()])
            for name in found.layers()
            if part in found.sets(name)
        ]
        if rows:
            tables.append(SetTable(SETS[part], rows))
    return tables


def _ranks(found: AnalysisRecords) -> list[RankRow]:
    rows = []
    for name in found.layers():
        for part in found.sets(name):
            cells = []
            for path in ((c, part, kind) for c in ("none", "each") for kind in _RANKS):
                original, *others = (read_number(r, name, "rank", *path) for r in found.all)
                known = [v for v in others if v is not None]
                cells.append((original, sum(known) / len(known) if known else None))
            rows.append(RankRow(name, SETS[part], cells))
    return rows


_RANKS = ("participation", "entropy")


def _reasons(found: AnalysisRecords) -> list[str]:
    """Why numbers are missing: a line for each layer, number and reason."""
    return [
        f"{indicator.label} of the {SETS[part]} at {name}: {value.reason}"
        for name in found.layers()
        for part in (p for p in found.sets(name) if p != "retain")
        for indicator in INDICATORS.values()
        if not (value := found.contrast(name, part, indicator)).says
    ]
