"""What a sequence of deletion requests left, from the records of its steps alone.

Did each request take, and did earlier ones stay forgotten?
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from eigenforget.core import bands
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.escaping import markdown_table
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.table import build, number, signed

GROUP_SERIES = "forget_groups"
"""The series with a model's accuracy on the samples of each request so far."""

_SCORES = ("forget_accuracy", "test_retain_accuracy", "mia_auc", "da")


class RequestAccuracy(NamedTuple):
    """Accuracy on the samples of one request.

    Attributes:
        value: The model's.
        oracle: The mean of the oracles.
        units: The gap in half-widths of their band; None without a band.
    """

    value: float
    oracle: float
    units: float | None


class StepSummary(NamedTuple):
    """One step of a sequence.

    Attributes:
        number: Its number, from 1.
        groups: The accuracy on the samples of every request so far.
        scores: Scores of the model beside the oracles' mean.
        share: Share of the cost of retraining; None where it is unknown.
        reason: Why there is no model; "" where there is one.
    """

    number: int
    groups: dict[str, RequestAccuracy]
    scores: dict[str, tuple[float, float]]
    share: float | None
    reason: str


def summarise_step(number_of: int, records: Sequence[RunRecord], name: str = "") -> StepSummary:
    """The summary of one step's records, of the model `name` (by default "step <number>").

    Raises:
        RecordError: There is no such model, no oracle, or no accuracies by request.
    """
    wanted = name or f"step {number_of}"
    own = next((r for r in records if r.name == wanted), None)
    oracles = [r for r in records if r.role == "oracle"]
    if own is None or not oracles:
        raise RecordError(f"step {number_of} has no record of {wanted!r} beside retrained models")
    if own.outcome.status != "ok":
        return StepSummary(number_of, {}, {}, None, own.outcome.reason)
    accuracies = own.series.get(GROUP_SERIES)
    if accuracies is None:
        raise RecordError(
            f"the record of {wanted!r} has no series {GROUP_SERIES!r}: it is not of a sequence"
        )
    groups = {
        group: _accuracy(accuracies[group], [o.series[GROUP_SERIES][group] for o in oracles])
        for group in sorted(accuracies, key=_request_number)
    }
    table = build(records)
    row = next(r for r in table.rows if r.model == wanted)
    values = {s: row.cells[s].value for s in _SCORES if s in row.cells and s in table.reference}
    scores = {s: (v, table.reference[s].mean) for s, v in values.items() if v is not None}
    return StepSummary(number_of, groups, scores, row.share, "")


def sequence_page(steps: Sequence[Sequence[RunRecord]]) -> tuple[str, str]:
    """The document and the figure over the records of all steps, the first step first."""
    found = [summarise_step(number, records) for number, records in enumerate(steps, start=1)]
    at_once = any(r.name == "at once" for r in steps[-1])
    together = summarise_step(len(found), steps[-1], "at once") if at_once else None
    method = steps[0][-1].job["method"]["spec"]
    text = (
        f"# {len(found)} requests, one after the other: `{method}`\n\n"
        f"{sequence_table(found, together)}\n\n![](sequence.svg)\n"
    )
    title = f"Accuracy on the samples of each request after each step: {method}"
    return text, sequence_figure(found, title)


def resurrection(summary: StepSummary) -> float | None:
    """The largest gap (model − oracles) in accuracy on the samples of an earlier request.

    None at the first step.
    """
    earlier = list(summary.groups.values())[:-1]
    return max((s.value - s.oracle for s in earlier), default=None)


def sequence_table(steps: Sequence[StepSummary], at_once: StepSummary | None = None) -> str:
    """A markdown table with a row per step, and one for all requests at once."""
    heads = (
        "step",
        "forget acc. (retrained)",
        "largest gap of an earlier request",
        "retained test acc. (retrained)",
        "gap",
        "MIA AUC (retrained)",
        "DA (retrained)",
        "share of retraining",
    )
    rows = [_cells(str(step.number), step) for step in steps]
    if at_once is not None:
        rows.append(_cells("at once", at_once))
    return markdown_table(heads, [row + [""] * (len(heads) - len(row)) for row in rows])


def sequence_figure(steps: Sequence[StepSummary], title: str) -> str:
    """An SVG heat map, requests by steps: accuracy on each request's samples.

    Coloured by its gap to the oracles of that step.
    """
    lines = [
        Line(
            name,
            [
                Shade(number(s.groups[name].value), s.groups[name].units)
                if name in s.groups
                else None
                for s in steps
            ],
        )
        for name in dict.fromkeys(g for s in steps for g in s.groups)
    ]
    return heatmap(title, [f"step {s.number}" for s in steps], lines)


def _cells(label: str, step: StepSummary) -> list[str]:
    if step.reason:
        # One line, whose bars end no cell.
        return [label, " ".join(step.reason.replace("\\", "\\\\").replace("|", "\\|").split())]
    worst, retained = resurrection(step), step.scores.get("test_retain_accuracy")
    return [
        label,
        _pair(step, "forget_accuracy"),
        "–" if worst is None else signed(worst),
        _pair(step, "test_retain_accuracy"),
        "–" if retained is None else signed(retained[0] - retained[1]),
        _pair(step, "mia_auc"),
        _pair(step, "da"),
        "–" if step.share is None else f"{step.share:.1%}",
    ]


def _request_number(group: str) -> int:
    """The leading number of "10 by_class(label=3)"; by letters 10 would come before 2."""
    return int(group.partition(" ")[0])


def _accuracy(value: float, oracles: Sequence[float]) -> RequestAccuracy:
    band = bands.band(oracles, span=(0.0, 1.0))
    units = None if band is None else bands.units(value, band)
    return RequestAccuracy(value, statistics.fmean(oracles), units)


def _pair(summary: StepSummary, name: str) -> str:
    if name not in summary.scores:
        return "–"
    value, oracle = summary.scores[name]
    return f"{number(value)} ({number(oracle)})"
