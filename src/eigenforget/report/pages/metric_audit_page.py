"""The page of an audit of the metrics: which scores can be trusted, for each request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.record import RunRecord, write_text
from eigenforget.report.figures.chart import DrawnChart, drawn_chart
from eigenforget.report.figures.drawing import HeatMap
from eigenforget.report.figures.style import band_step, shown
from eigenforget.report.findings import enumerated
from eigenforget.report.glossary import GLOSSARY_TERMS, HEADLINE, label
from eigenforget.report.pages.document import render_document
from eigenforget.report.pages.grid import GridRow
from eigenforget.report.pages.metric_audit import (
    CHEATS_EXPLAINED,
    FOOLED,
    GAPS_EXPLAINED,
    NO_SIGNAL,
    REJECTS,
    TRUSTED,
    UTILITY,
    WEAK,
    WRONG_WAY,
    CheatJudgement,
    Judgement,
    audit_rows,
    cheat_names,
    cheat_rows,
    judge_cheats,
    judge_metrics,
    shade,
    title_of,
    unmeasured,
)
from eigenforget.report.settings import settings
from eigenforget.report.table import build

_NAMED = 3
"""Scores that a cell of the first table names before it counts the others."""

_KINDS = {
    TRUSTED: ("like-retrained", "accepts retrained models, catches all others"),
    FOOLED: ("damaged", "takes a control for a retrained model"),
    WRONG_WAY: ("damaged", "calls the original over-forgotten"),
    WEAK: ("", "catches the original on some training seeds only"),
    NO_SIGNAL: ("", "takes the original for a retrained model"),
    REJECTS: ("damaged", "does not accept retrained models"),
    UTILITY: ("", "says what was kept, not what was forgotten"),
}
"""Conclusions in the order of the page: the style of the line, and what they mean."""


class AuditedRequest(NamedTuple):
    """One request of the audit.

    Attributes:
        request: Its spelling.
        about: It, and how many models there are.
        found: A judgement for each score.
        cheats: A judgement for each cheat.
        missing: Why something was not measured.
    """

    request: str
    about: str
    found: list[Judgement]
    cheats: list[CheatJudgement]
    missing: list[str]

    def names(self, kind: str) -> list[str]:
        """The scores of which this is the conclusion, headline scores first."""
        names = [j.metric.name for j in self.found if j.kind == kind]
        return [label(name) for name in sorted(names, key=lambda name: name not in HEADLINE)]


def write_audit(audits: Mapping[str, Sequence[RunRecord]], path: str | Path) -> Path:
    """Renders the page into a file, as a whole or not at all."""
    return write_text(path, render_audit(audits))


def render_audit(audits: Mapping[str, Sequence[RunRecord]]) -> str:
    """The page over the requests of one audit.

    Args:
        audits: The records of each request, by the name of its folder.

    Raises:
        RecordError: There is no original, or there are fewer than 3 retrained models.
    """
    requests = [
        AuditedRequest(
            str(records[0].job["request"]["spec"]),
            title_of(records),
            judge_metrics(records),
            judge_cheats(records),
            unmeasured(records),
        )
        for records in audits.values()
    ]
    first = next(iter(audits.values()))
    return render_document(
        "metric_audit.html.jinja",
        title="Which scores can be trusted here?",
        lead=_LEAD,
        heads=("conclusion", *(each.request for each in requests)),
        grid_rows=_grid_rows(requests),
        next_steps=[(each.request, list(_next(each))) for each in requests],
        pictures=([_chart(number, each) for number, each in enumerate(requests, start=1)], []),
        requests=[(each, audit_rows(each.found), cheat_rows(each.cheats)) for each in requests],
        explained=GAPS_EXPLAINED,
        cheats_explained=CHEATS_EXPLAINED,
        setup={part: settings(first, part) for part in ("job", "environment", "inputs")},
        records=[r for records in audits.values() for r in records],
        corrected=0,
        terms=GLOSSARY_TERMS,
        table=build(first),
    )


_LEAD = (
    "Models whose answer is known test the scores. A score can be trusted if it accepts retrained"
    " models that are held out, and tells the original and each control from them."
)


def _grid_rows(requests: Sequence[AuditedRequest]) -> list[GridRow]:
    """A line for each conclusion, with the scores of each request."""
    rows = []
    for kind, (style, meaning) in _KINDS.items():
        names = [each.names(kind) for each in requests]
        if any(names):
            cells = [enumerated(of, _NAMED) or "–" for of in names]
            rows.append(GridRow(kind, style, meaning, cells))
    return rows


def _next(each: AuditedRequest) -> Iterator[str]:
    """What to do with the scores of a request."""
    trusted, fooled = each.names(TRUSTED), [*each.names(FOOLED), *each.names(WRONG_WAY)]
    if trusted:
        yield f"Judge models by {enumerated(trusted, _NAMED)}."
    else:
        yield (
            "Judge no model by a single score: none tells the original and the controls from"
            " retrained models."
        )
    if fooled:
        yield f"Conclude nothing from {enumerated(fooled, _NAMED)} alone."
    if each.names(REJECTS):
        yield "Retrain more models (--oracles) where a score rejects them: it may be chance."
    passing = [f"{cheat.name}" for cheat in each.cheats if cheat.passes]
    if passing:
        yield f"Mind that {enumerated(passing, _NAMED)} passes the verdict and the check of files."


def _chart(number: int, each: AuditedRequest) -> DrawnChart:
    """The headline scores of a request, by models of which the answer is known."""
    found = [j for j in each.found if j.metric.name in HEADLINE] or each.found
    names, title = cheat_names(found), f"Headline scores: {each.request}"
    columns = ["held out", "original", *(shown(name) for name in names), "conclusion"]
    shades = [[shade(gaps) for gaps in j.of(names)] for j in found]
    texts = [
        [j.oracles.inside, *("–" if s is None else s.text for s in line), j.conclusion]
        for j, line in zip(found, shades, strict=True)
    ]
    steps = [
        [
            0 if j.passes_oracles else 4,
            *(None if s is None or s.units is None else band_step(s.units) for s in line),
            None,
        ]
        for j, line in zip(found, shades, strict=True)
    ]
    caption = (
        "Held out: how many retrained models lie in the band of the others. Other cells: mean gap"
        " in half-widths of that band. Green is within it, orange and purple are outside."
    )
    figure = HeatMap(columns, [label(j.metric.name) for j in found], texts, steps, "band")
    return drawn_chart(
        figure, id=f"audit-{number}", title=title, reading=_reading(found), caption=caption
    )


def _reading(found: Sequence[Judgement]) -> str:
    trusted = [label(j.metric.name) for j in found if j.kind == TRUSTED]
    if not trusted:
        return f"None of {len(found)} headline scores can be trusted here."
    return f"Of {len(found)} headline scores, {enumerated(trusted, _NAMED)} can be trusted here."
