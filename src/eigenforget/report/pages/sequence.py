"""What a sequence of deletion requests left, from the records of its steps alone.

Did each request take, and did earlier ones stay forgotten?
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.core import bands
from eigenforget.core.text import counted
from eigenforget.record import RecordError, RunRecord, write_text
from eigenforget.report.escaping import markdown_table
from eigenforget.report.figures.chart import DrawnChart, drawn_chart
from eigenforget.report.figures.drawing import Axis, HeatMap
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.style import BLUE, RETRAINED, Style, band_step, shown
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.glossary import GLOSSARY_TERMS, label
from eigenforget.report.pages.document import render_document
from eigenforget.report.pages.grid import GridRow, next_steps, verdict_row
from eigenforget.report.table import build, number, signed
from eigenforget.report.verdict import (
    QUESTIONS,
    QuestionAnswer,
    Verdict,
    VerdictOutcome,
    verdict_on,
)

GROUP_SERIES = "forget_groups"
"""The series with a model's accuracy on the samples of each request so far."""

AT_ONCE = "at once"
"""The model that forgot all requests together, among the records of the last step."""

_SCORES = ("forget_accuracy", "test_retain_accuracy", "mia_auc", "da")
_STAYED = "Did earlier requests stay forgotten?"
_HEADS = (
    "step",
    "forget acc. (retrained)",
    "largest gap of an earlier request",
    "retained test acc. (retrained)",
    "gap",
    "MIA AUC (retrained)",
    "DA (retrained)",
    "share of retraining",
)


class RequestAccuracy(NamedTuple):
    """Accuracy on the samples of one request.

    Attributes:
        value: The model's.
        oracle: The mean of the oracles.
        units: The gap in half-widths of their band; None without a band.
        oracles: How many oracles there are.
    """

    value: float
    oracle: float
    units: float | None
    oracles: int = 0


class StepSummary(NamedTuple):
    """One step of a sequence.

    Attributes:
        number: Its number, from 1.
        groups: The accuracy on the samples of every request so far.
        scores: Scores of the model beside the oracles' mean.
        share: Share of the cost of retraining; None where it is unknown.
        reason: Why there is no model; "" where there is one.
        verdict: The verdict on its model, beside the oracles of this step.
    """

    number: int
    groups: dict[str, RequestAccuracy]
    scores: dict[str, tuple[float, float]]
    share: float | None
    reason: str
    verdict: Verdict

    @property
    def request(self) -> str:
        """The request that came last; "" where nothing was measured."""
        return list(self.groups)[-1].partition(" ")[2] if self.groups else ""

    @property
    def earlier(self) -> dict[str, RequestAccuracy]:
        """The groups of the requests before the last one."""
        return dict(list(self.groups.items())[:-1])

    @property
    def came_back(self) -> list[str]:
        """Earlier requests whose samples the model knows better than retrained models do."""
        count = len(self.earlier)
        return [
            name
            for name, found in self.earlier.items()
            if found.units is not None
            and found.units > bands.limit_of_several(found.oracles, values=count)
        ]


class SequenceSummary(NamedTuple):
    """All steps of a sequence, and the model that forgot all requests at once, if there is one."""

    method: str
    steps: list[StepSummary]
    at_once: StepSummary | None

    @property
    def every(self) -> list[StepSummary]:
        """The steps, and all requests at once."""
        return self.steps if self.at_once is None else [*self.steps, self.at_once]


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
    table = build(records)
    row = next(r for r in table.rows if r.model == wanted)
    if own.outcome.status != "ok":
        verdict = verdict_on(row, table)
        return StepSummary(number_of, {}, {}, None, own.outcome.reason, verdict)
    accuracies = own.series.get(GROUP_SERIES)
    if accuracies is None:
        raise RecordError(
            f"the record of {wanted!r} has no series {GROUP_SERIES!r}: it is not of a sequence"
        )
    groups = {
        group: _accuracy(accuracies[group], [o.series[GROUP_SERIES][group] for o in oracles])
        for group in sorted(accuracies, key=_request_number)
    }
    values = {s: row.cells[s].value for s in _SCORES if s in row.cells and s in table.oracles}
    scores = {s: (v, table.oracles[s].mean) for s, v in values.items() if v is not None}
    return StepSummary(number_of, groups, scores, row.share, "", verdict_on(row, table))


def summarise(steps: Sequence[Sequence[RunRecord]]) -> SequenceSummary:
    """The summary of the records of all steps, the first step first."""
    found = [summarise_step(number, records) for number, records in enumerate(steps, start=1)]
    at_once = any(r.name == AT_ONCE for r in steps[-1])
    together = summarise_step(len(found), steps[-1], AT_ONCE) if at_once else None
    return SequenceSummary(steps[0][-1].job["method"]["spec"], found, together)


def write_sequence(steps: Sequence[Sequence[RunRecord]], path: str | Path) -> SequenceSummary:
    """Renders the page into a file, as a whole or not at all; returns what it shows."""
    found = summarise(steps)
    write_text(path, _rendered(found, steps))
    return found


def render_sequence(steps: Sequence[Sequence[RunRecord]]) -> str:
    """The page over the records of all steps, the first step first.

    Raises:
        RecordError: A step lacks its model, its oracles, or the accuracies by request.
    """
    return _rendered(summarise(steps), steps)


def _rendered(found: SequenceSummary, steps: Sequence[Sequence[RunRecord]]) -> str:
    return render_document(
        "sequence.html.jinja",
        title=f"{counted(len(found.steps), 'request', 'requests')}, one after the other",
        answer=f"{_line(found.steps[-1])}.",
        lead=_lead(found, steps),
        heads=("model", *QUESTIONS[:2], _STAYED, QUESTIONS[2]),
        grid_rows=[_grid_row(step) for step in found.every],
        next_steps=next_steps(_next(found)),
        pictures=([_groups_chart(found), _scores_chart(found)], []),
        table_heads=_HEADS,
        table_rows=_rows(found.steps, found.at_once),
        folders=[f"step{step.number:02d}" for step in found.steps],
        records=[r for records in steps for r in records],
        corrected=0,
        terms=GLOSSARY_TERMS,
    )


def sequence_page(steps: Sequence[Sequence[RunRecord]]) -> tuple[str, str]:
    """The same as a document in markdown, and its figure."""
    found = summarise(steps)
    text = "\n".join(
        [
            f"# {len(found.steps)} requests, one after the other: `{found.method}`\n",
            *(f"- {line}" for line in sequence_lines(found)),
            "\n![](sequence.svg)\n",
            sequence_table(found.steps, found.at_once),
            "",
        ]
    )
    title = f"Accuracy on the samples of each request after each step: {found.method}"
    return text, sequence_figure(found.steps, title)


def stayed_forgotten(step: StepSummary) -> QuestionAnswer | None:
    """Whether earlier requests are still forgotten; None where there is none."""
    if not step.earlier:
        return None
    if step.came_back:
        return QuestionAnswer("no", f"no, {_named(step.came_back)} came back")
    if any(found.units is None for found in step.earlier.values()):
        return QuestionAnswer("cannot tell", "cannot tell: it takes two retrained models")
    return QuestionAnswer("yes", "yes")


def resurrection(summary: StepSummary) -> float | None:
    """The largest gap (model − oracles) in accuracy on the samples of an earlier request.

    None at the first step.
    """
    return max((s.value - s.oracle for s in summary.earlier.values()), default=None)


def sequence_table(steps: Sequence[StepSummary], at_once: StepSummary | None = None) -> str:
    """A markdown table with a row per step, and one for all requests at once."""
    rows = [
        [cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row]
        for row in _rows(steps, at_once)
    ]
    return markdown_table(_HEADS, rows)


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


def _rows(steps: Sequence[StepSummary], at_once: StepSummary | None) -> list[list[str]]:
    """The cells of each step, and of all requests at once."""
    rows = [_cells(str(step.number), step) for step in steps]
    if at_once is not None:
        rows.append(_cells(AT_ONCE, at_once))
    return [row + [""] * (len(_HEADS) - len(row)) for row in rows]


def _cells(label: str, step: StepSummary) -> list[str]:
    if step.reason:
        return [label, " ".join(step.reason.split())]
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


def _lead(found: SequenceSummary, steps: Sequence[Sequence[RunRecord]]) -> str:
    count = sum(r.role == "oracle" for r in steps[-1])
    return (
        f"{found.method} honoured each request on the model that the request before had left."
        f" After each step that model is judged against"
        f" {counted(count, 'retrained model', 'retrained models')} that never saw the samples of"
        " any request so far."
    )


def _grid_row(step: StepSummary) -> GridRow:
    """The line of a step: the report's, with one question more."""
    row = verdict_row(step.verdict)
    forgot, kept, cost = row.cells
    asked = "all requests together" if row.name == AT_ONCE else step.request
    note = ": ".join(part for part in (asked, row.note) if part)
    return row._replace(note=note, cells=(forgot, kept, stayed_forgotten(step) or "–", cost))


def _line(step: StepSummary) -> str:
    """The verdict on a model in one line."""
    stayed = stayed_forgotten(step)
    said = "" if stayed is None else f"; {_STAYED.lower().rstrip('?')}: {stayed.words}"
    return f"{step.verdict.line}{said}"


def sequence_lines(found: SequenceSummary) -> list[str]:
    """Each model in a line of text, and what to do next."""
    todo = next_steps(_next(found))
    return [*map(_line, found.every), *(f"Next, {models}: {step}" for step, models in todo.items())]


def _next(found: SequenceSummary) -> Iterator[tuple[str, str]]:
    """What to do with the last model, and with all at once where that ended better."""
    last, together = found.steps[-1], found.at_once
    yield last.verdict.model, last.verdict.next_step
    if last.came_back:
        yield (
            last.verdict.model,
            f"{_named(last.came_back)} came back. Unlearn the samples of all requests together, or"
            " retrain.",
        )
    good: VerdictOutcome = "like a retrained model"
    if together and together.verdict.outcome == good and last.verdict.outcome != good:
        yield together.verdict.model, "Better than one request after the other: take this model."


def _named(groups: Sequence[str]) -> str:
    numbers = [group.partition(" ")[0] for group in groups]
    return f"request {numbers[0]}" if len(numbers) == 1 else f"requests {', '.join(numbers)}"


def _groups_chart(found: SequenceSummary) -> DrawnChart:
    names = list(dict.fromkeys(group for step in found.every for group in step.groups))
    cells = [[step.groups.get(name) for step in found.every] for name in names]
    title = "Does each request stay forgotten?"
    caption = (
        "Accuracy on the samples of each request, after each step. Green: within the band of"
        " retrained models; orange: above it, samples are remembered; purple: below it."
    )
    figure = HeatMap(
        [step.verdict.model for step in found.every],
        [shown(name, 40) for name in names],
        [["" if cell is None else number(cell.value) for cell in line] for line in cells],
        [
            [None if c is None or c.units is None else band_step(c.units) for c in line]
            for line in cells
        ],
        "band",
    )
    return drawn_chart(
        figure, id="groups", title=title, reading=_groups_reading(found), caption=caption
    )


def _groups_reading(found: SequenceSummary) -> str:
    """The request that rose farthest above retrained models at a later step."""
    later = [
        (cell.value - cell.oracle, name, step.number, cell)
        for step in found.steps
        for name, cell in step.earlier.items()
    ]
    if not later:
        return ""
    gap, name, at, cell = max(later, key=lambda item: item[0])
    if gap <= 0:
        return "After later steps no earlier request is known better than by retrained models."
    return (
        f"The farthest above retrained models is request {name.partition(' ')[0]} after step {at}:"
        f" {number(cell.value)} beside {number(cell.oracle)}."
    )


def _scores_chart(found: SequenceSummary) -> DrawnChart:
    names = [name for name in _SCORES if any(name in step.scores for step in found.steps)]
    panels = Panels([label(name) for name in names], height=170, columns=2)
    ticks = {float(step.number): str(step.number) for step in found.steps}
    for i, name in enumerate(names):
        points = [(s.number, *s.scores[name]) for s in found.steps if name in s.scores]
        at, own, retrained = zip(*points, strict=True)
        panels.add(i, "retrained (mean)", (at, retrained), RETRAINED.both())
        panels.add(i, "unlearned", (at, own), Style(BLUE, "circle", "solid").both())
        panels.axes(i, Axis("step", ticks=ticks, reads="step"), Axis())
    title = "Does it keep what it should, step after step?"
    caption = "Each step has retrained models of its own, which never saw its forget set."
    return drawn_chart(
        panels.figure(), id="scores", title=title, reading=_scores_reading(found), caption=caption
    )


def _scores_reading(found: SequenceSummary) -> str:
    """The gap in accuracy on what is retained, after the first and the last step."""
    pairs = [
        s.scores["test_retain_accuracy"] for s in found.steps if "test_retain_accuracy" in s.scores
    ]
    if not pairs:
        return ""
    first, last = (number(pair[0]) + " beside " + number(pair[1]) for pair in (pairs[0], pairs[-1]))
    return f"Test retain accuracy is {first} after the first step, and {last} after the last."


def _request_number(group: str) -> int:
    """The leading number of "10 by_class(label=3)"; by letters 10 would come before 2."""
    return int(group.partition(" ")[0])


def _accuracy(value: float, oracles: Sequence[float]) -> RequestAccuracy:
    band = bands.band(oracles, span=(0.0, 1.0))
    units = None if band is None else bands.units(value, band)
    return RequestAccuracy(value, statistics.fmean(oracles), units, len(oracles))


def _pair(summary: StepSummary, name: str) -> str:
    if name not in summary.scores:
        return "–"
    value, oracle = summary.scores[name]
    return f"{number(value)} ({number(oracle)})"
