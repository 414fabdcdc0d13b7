"""What a sequence of deletion requests left, from the records of its steps alone: did each take,
and did earlier ones stay forgotten?
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from eigenforget.core import bands
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.table import build, number, signed

GROUPS = "forget_groups"


class Standing(NamedTuple):
    """Accuracy on the samples of one request: of the model, the mean of the oracles, and the gap in
    halves of their band.
    """

    value: float
    oracle: float
    units: float | None


class StepSummary(NamedTuple):
    """One step: its number, the standing of every request so far, and the scores of the model
    beside the oracles' mean.

    reason: why there is no model, "" where there is one. share: seconds over the oracles' mean.
    """

    number: int
    groups: dict[str, Standing]
    scores: dict[str, tuple[float, float]]
    share: float | None
    reason: str


SCORES = ("forget_accuracy", "test_retain_accuracy", "mia_auc", "da")


def summarise(number_of: int, records: Sequence[RunRecord], name: str = "") -> StepSummary:
    """The summary of one step's records, of the model `name` (by default "step <number>"). Errors:
    no such model, no oracle, no accuracies by request."""
    wanted = name or f"step {number_of}"
    found = [r for r in records if r.name == wanted]
    oracles = [r for r in records if r.role == "oracle"]
    if not found or not oracles:
        raise RecordError(f"step {number_of} has no record of {wanted!r} beside retrained models")
    if found[0].outcome.status != "ok":
        return StepSummary(number_of, {}, {}, None, found[0].outcome.reason)
    own = found[0].series.get(GROUPS)
    if own is None:
        raise RecordError(
            f"the record of {wanted!r} has no series {GROUPS!r}: it is not of a sequence"
        )
    groups = {
        g: _standing(own[g], [o.series[GROUPS][g] for o in oracles])
        for g in sorted(own, key=_request_number)
    }
    table = build(records)
    row = next(r for r in table.rows if r.model == wanted)
    cells = {s: row.cells[s].value for s in SCORES if s in row.cells and s in table.reference}
    scores = {
        s: (value, table.reference[s].mean) for s, value in cells.items() if value is not None
    }
    return StepSummary(number_of, groups, scores, row.share, "")


def page(steps: Sequence[Sequence[RunRecord]]) -> tuple[str, str]:
    """The document and the figure over the records of all steps, the first step first."""
    found = [summarise(number, records) for number, records in enumerate(steps, start=1)]
    last = steps[-1]
    at_once = any(r.name == "at once" for r in last)
    together = summarise(len(found), last, "at once") if at_once else None
    method = steps[0][-1].job["method"]["spec"]
    text = (
        f"# {len(found)} requests, one after the other: `{method}`\n\n"
        f"{markdown(found, together)}\n\n![](sequence.svg)\n"
    )
    return text, draw(found, f"Accuracy on the samples of each request after each step: {method}")


def resurrection(summary: StepSummary) -> float | None:
    """The largest gap (model − oracles) in accuracy on the samples of an earlier request; None at
    the first step.
    """
    earlier = list(summary.groups.values())[:-1]
    return max((s.value - s.oracle for s in earlier), default=None)


def markdown(steps: Sequence[StepSummary], at_once: StepSummary | None = None) -> str:
    """A row per step, and one for all requests at once."""
    heads = [
        "step",
        "forget acc. (retrained)",
        "largest gap of an earlier request",
        "retained test acc. (retrained)",
        "gap",
        "MIA AUC (retrained)",
        "DA (retrained)",
        "share of retraining",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for label, s in [
        *((str(s.number), s) for s in steps),
        *([("at once", at_once)] if at_once is not None else []),
    ]:
        if s.reason:
            lines.append(f"| {label} | {_cell(s.reason)} |{' |' * (len(heads) - 2)}")
            continue
        worst = resurrection(s)
        kept = s.scores.get("test_retain_accuracy")
        cells = [
            label,
            _pair(s, "forget_accuracy"),
            "–" if worst is None else signed(worst),
            _pair(s, "test_retain_accuracy"),
            "–" if kept is None else signed(kept[0] - kept[1]),
            _pair(s, "mia_auc"),
            _pair(s, "da"),
            "–" if s.share is None else f"{s.share:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text as a cell of a Markdown table: one line, whose bars end no cell."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def draw(steps: Sequence[StepSummary], title: str) -> str:
    """Requests by steps: accuracy on each request's samples, coloured by its gap to the oracles of
    that step.
    """
    names = list(dict.fromkeys(g for s in steps for g in s.groups))
    lines = []
    for name in names:
        cells = [
            None
            if name not in s.groups
            else Shade(number(s.groups[name].value), s.groups[name].units)
            for s in steps
        ]
        lines.append(Line(name, cells))
    return heatmap(title, [f"step {s.number}" for s in steps], lines)


def _request_number(group: str) -> int:
    """The leading number of "10 by_class(label=3)"; JSON keeps its keys in the order of their
    letters, with 10 before 2.
    """
    return int(group.partition(" ")[0])


def _standing(value: float, oracles: Sequence[float]) -> Standing:
    width = bands.band(oracles, span=(0.0, 1.0))
    return Standing(
        value, statistics.fmean(oracles), None if width is None else bands.units(value, width)
    )


def _pair(summary: StepSummary, name: str) -> str:
    if name not in summary.scores:
        return "–"
    value, oracle = summary.scores[name]
    return f"{number(value)} ({number(oracle)})"
