"""The report as one HTML file: everything inlined, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eigenforget.core.text import counted, joined
from eigenforget.record import RunRecord, in_force, write_text
from eigenforget.report.checks import Check, by_severity, checks
from eigenforget.report.decision import FORGET_LEVEL, KEEP_LEVEL
from eigenforget.report.figures.chart import Chart, DrawnChart
from eigenforget.report.figures.charts import PICTURES, TOPICS
from eigenforget.report.findings import SEVERITIES, Rule
from eigenforget.report.glossary import GLOSSARY_TERMS, GROUPS, group
from eigenforget.report.pages.document import render_document
from eigenforget.report.pages.grid import next_steps, verdict_row
from eigenforget.report.settings import settings, spelled, statements
from eigenforget.report.table import Column, Table, build, evaluated, number
from eigenforget.report.verdict import (
    QUESTIONS,
    Verdict,
    VerdictOutcome,
    limits,
    separates,
    verdict_on,
    verdicts,
)

_WIDEST = 7
"""Scores of one table: more do not fit the width of a sheet."""

_AT_ONCE = 6
"""Unlearned models and controls in the head of the page; the others are folded beneath it."""


_NAMED = 4
"""Models of one verdict that the first sentence names; of more it gives the number."""

_SAID: dict[VerdictOutcome, tuple[str, str]] = {
    "like a retrained model": ("is like a retrained model", "are like a retrained model"),
    "still remembers": ("still remembers", "still remember"),
    "damaged": ("is damaged", "are damaged"),
    "cannot tell": ("cannot be judged", "cannot be judged"),
}
"""What is said of one model and of several."""


class FigureGroup(NamedTuple):
    """Figures of a page, and why others are left out."""

    drawn: list[DrawnChart]
    left_out: list[str]


def render(records: Sequence[RunRecord], title: str, own_checks: Sequence[Rule | str] = ()) -> str:
    """The page for these records.

    The evaluate records are the models; other kinds are listed with their digests.

    Args:
        records: What the page is about.
        title: Its title.
        own_checks: Further checks, see `report.checks.all_rules`.

    Raises:
        RecordError: There is no evaluate record, two share a name, or a series or a field that a
            check reads is malformed.
    """
    table, models = build(records), evaluated(records)
    before = [verdict_on(row, table) for row in table.of_role("original")]
    said, made = verdicts(table), checks(records, own_checks)
    return render_document(
        "page.html.jinja",
        title=title,
        table=table,
        groups=_groups(table),
        records=records,
        corrected=len(records) - len(in_force(records)),
        answer=_answer([v for v in said if v.role == "unlearned"]),
        lead=_lead(table, models),
        verdicts=said,
        next_steps=next_steps((v.model, v.next_step) for v in said if v.role != "control"),
        heads=("model", *QUESTIONS),
        grid_rows=[verdict_row(v) for v in [*before, *said]],
        first_rows=len(before) + _AT_ONCE,
        control=next(t.meaning for t in GLOSSARY_TERMS if t.name == "control"),
        levels=(FORGET_LEVEL, KEEP_LEVEL),
        limits=limits(table),
        observation=_observation(table),
        notes=_notes(table),
        pictures=_drawn(PICTURES, models),
        topics={name: _drawn(charts, models) for name, charts in TOPICS.items()},
        setup={part: settings(models, part) for part in ("job", "environment", "inputs")},
        claims=statements(models, "claims"),
        non_claims=statements(models, "non_claims"),
        checks=made,
        errors=[c for c in by_severity(made) if c.severity == "error"],
        found=_found(made),
        terms=GLOSSARY_TERMS,
        anchors={c.name: f"score-{i}" for i, c in enumerate(table.columns, start=1)},
    )


def write_page(records: Sequence[RunRecord], path: str | Path, title: str) -> Path:
    """Renders the page into a file, as a whole or not at all."""
    return write_text(path, render(records, title))


def _drawn(charts: Sequence[Chart], models: Sequence[RunRecord]) -> FigureGroup:
    return FigureGroup(
        [c.draw(models) for c in charts if c.applies(models)],
        [c.absence() for c in charts if not c.applies(models)],
    )


def _found(made: Sequence[Check]) -> str:
    """How many checks found something, by severity."""
    hits = [c.severity for c in made if c.status == "found"]
    counts = [(severity, hits.count(severity)) for severity in SEVERITIES]
    return joined([counted(n, name, f"{name}s") for name, n in counts if n])


def _groups(table: Table) -> list[tuple[str, list[Column]]]:
    """The groups of scores that some model has, each in tables that fit a sheet of paper.

    Without any score there is one group without columns, so that every model is listed with its
    status.
    """
    had = {name for row in table.rows for name, cell in row.cells.items() if cell.value is not None}
    parts = []
    for name in GROUPS:
        columns = [c for c in table.columns if group(c.name, table) == name and c.name in had]
        count = -(-len(columns) // _WIDEST)
        for i in range(count):
            own = columns[len(columns) * i // count : len(columns) * (i + 1) // count]
            parts.append((name if i == 0 else f"{name}, continued", own))
    return parts or [("models", [])]


def _answer(judged: Sequence[Verdict]) -> str:
    """The verdicts on the unlearned models in one sentence; "" where there is none."""
    if len(judged) < 2:
        return "".join(f"{v.line}." for v in judged)
    parts = []
    for outcome, (one, many) in _SAID.items():
        models = [v.model for v in judged if v.outcome == outcome]
        names = f" ({joined(models)})" if len(models) <= _NAMED else ""
        if models:
            parts.append(f"{counted(len(models), one, many)}{names}")
    return f"Of {len(judged)} unlearned models, {joined(parts)}."


def _lead(table: Table, models: Sequence[RunRecord]) -> str:
    oracles = len(table.of_role("oracle"))
    request = spelled(models, "request")
    asked = f" The request: {request}." if request else ""
    return f"Judged against {_count(oracles, 'retrained model', 'retrained models')}.{asked}"


def _observation(table: Table) -> str:
    """The paper's first observation on these models: where data lies that a model never saw."""
    seen, unseen = table.original.get("da"), table.oracles.get("da")
    if seen is None or unseen is None:
        return ""
    text = (
        "Dimensional alignment of the forget set with the retain set is"
        f" {number(seen)} in the original, which saw the forget set, and {number(unseen.mean)} in"
        " the retrained models"
    )
    if not separates("da", table):
        return f"{text}: too near each other to tell, so alignment says nothing for this request."
    if seen < unseen.mean:
        return (
            f"{text}: data that a model never saw lies closer to the features of the data that it"
            " saw."
        )
    return f"{text}: here, unlike in the paper, the data that was never seen lies farther away."


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


def _count(n: int, one: str, many: str) -> str:
    return counted(n, one, many) if n else f"no {many}"
