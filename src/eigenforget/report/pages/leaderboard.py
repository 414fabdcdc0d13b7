"""Methods over many problems and training seeds: how many scores lie in the retrained models' band,
and at what cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.glossary import UTILITY, group, label
from eigenforget.report.table import Row, Table, build, number, percent

PANEL = (
    "forget_accuracy",
    "test_forget_accuracy",
    "retain_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "rmia_auc",
    "da",
    "lp_forget",
    "ncm_forget",
    "nmi",
    "cluster_f1",
    "relearn_all_auc",
)
"""The scores that may count: of each kind a few, lest one kind that has many decide alone."""


_LEGEND = (
    "In band: scores in the band of the retrained models, of those that can tell here (mean over training seeds); cost: processor time"
    " beside that of retraining. Controls are cheats, built to pass some scores."
)


class Problem(NamedTuple):
    """A data set, model and request. seeds: for each training seed the evaluate records of one
    table.
    """

    title: str
    seeds: Sequence[Sequence[RunRecord]]


class Mark(NamedTuple):
    """A score of one model: its value, the gap to the retrained models' mean, that in halves of
    their band, and whether it lies in the band.
    """

    value: float
    gap: float
    units: float
    inside: bool


class Entry(NamedTuple):
    """A method on a problem. marks: by score, one for each training seed where it applies. shares:
    of the cost of retraining, by seed.

    left_out: scores that do not count: those that the method trains on, and those that cannot tell
    the original here (see `silent`). runs: how many have a result, of how many training seeds.
    specs: how it was spelled.
    """

    name: str
    role: str
    marks: dict[str, list[Mark]]
    shares: list[float]
    left_out: frozenset[str]
    runs: tuple[int, int]
    reasons: tuple[str, ...]
    specs: tuple[str, ...]

    @property
    def counted(self) -> list[str]:
        """In the order of the panel; empty where nothing that counts is about the forgotten, as
        good marks would then be for doing nothing.
        """
        found = [name for name in PANEL if self.marks.get(name) and name not in self.left_out]
        return found if any(group(name) != UTILITY for name in found) else []

    @property
    def inside(self) -> float | None:
        """How many of the counted scores are in band, mean over seeds; None where none counts."""
        return (
            sum(fmean(m.inside for m in self.marks[name]) for name in self.counted)
            if self.counted
            else None
        )

    @property
    def fraction(self) -> float | None:
        return None if self.inside is None else self.inside / len(self.counted)


def entries(problem: Problem, also: Sequence[str] = ()) -> list[Entry]:
    """The unlearned models and controls by name, most scores in band first; those without a result
    after them, controls last.

    also: scores beside the panel that get marks and do not count.
    Errors: RecordError for a problem without records, or without retrained models.
    """
    tables = [build(records) for records in problem.seeds]
    if not tables or not all(table.reference for table in tables):
        raise RecordError(
            f"{problem.title}: a leaderboard needs records of retrained models for every training seed"
        )
    rows: dict[str, list[Row]] = {}
    for table in tables:
        for row in table.rows:
            if row.role in ("unlearned", "control"):
                rows.setdefault(row.model, []).append(row)
    unheard = silent(tables)
    specs = {name: _specs(name, problem.seeds) for name in rows}
    found = [
        _entry(name, of, unheard, (len(tables), specs[name]), (*PANEL, *also))
        for name, of in rows.items()
    ]
    return sorted(
        found, key=lambda e: (e.role == "control", e.fraction is None, -(e.fraction or 0.0), e.name)
    )


def silent(tables: Sequence[Table], scores: Sequence[str] = PANEL) -> frozenset[str]:
    """Those of the scores that call the original itself retrained, on more than half of the
    training seeds: they would reward doing nothing.

    What measures the kept data counts in any case.
    """
    found = set()
    for name in scores:
        cells = [
            row.cells[name]
            for table in tables
            for row in table.rows
            if row.role == "original" and name in row.cells
        ]
        inside = [cell.verdict == "in" for cell in cells if cell.units is not None]
        if group(name) != UTILITY and inside and 2 * sum(inside) > len(inside):
            found.add(name)
    return frozenset(found)


def leaderboard(problems: Sequence[Problem]) -> str:
    """A markdown table: a line for each method, a column for each problem, best mean share of
    scores in band first.

    Only methods with a result on every problem have a mean; the others follow, and negative
    controls come last. A problem on which no score about the forgotten can tell is in no mean.
    """
    found = [{entry.name: entry for entry in entries(problem)} for problem in problems]
    telling = [any(entry.fraction is not None for entry in each.values()) for each in found]
    names = list(dict.fromkeys(name for each in found for name in each))
    lines = []
    for name in names:
        own = [each.get(name) for each in found]
        fractions = [
            entry.fraction for entry in own if entry is not None and entry.fraction is not None
        ]
        whole = len(fractions) == sum(telling) > 0
        costs = [share for entry in own if entry is not None for share in entry.shares]
        role = next(entry.role for entry in own if entry is not None)
        cells = [named(name, role), percent(fmean(fractions)) if whole else "–"]
        cells += [_in_band(entry) for entry in own] + [percent(median(costs)) if costs else "–"]
        lines.append(
            ((role == "control", not whole, -fmean(fractions) if whole else 0.0, name), cells)
        )
    lines.sort(key=lambda line: line[0])
    head = ["method", "in band", *(problem.title for problem in problems), "cost"]
    silent_ones = [
        problem.title for problem, tells in zip(problems, telling, strict=True) if not tells
    ]
    notes = f"\n{_LEGEND}\n"
    notes += "".join(
        f"\nNo score about the forgotten can tell here, so it is in no mean: {title}.\n"
        for title in silent_ones
    )
    return _table(head, [cells for _, cells in lines]) + notes


def details(problem: Problem) -> str:
    """A markdown table of one problem: mean value of each score over the seeds, with ✓ where it is
    in band on every seed, and † where it does not count."""
    found = entries(problem)
    columns = [name for name in PANEL if any(entry.marks.get(name) for entry in found)]
    rows = [
        [
            named(entry.name, entry.role),
            *(_cell(entry, name) for name in columns),
            _in_band(entry),
            _cost(entry),
        ]
        for entry in found
    ]
    table = _table(["method", *map(label, columns), "in band", "cost"], rows)
    notes = list(
        dict.fromkeys(f"- `{entry.name}`: {reason}" for entry in found for reason in entry.reasons)
    )
    if any(entry.marks.get(name) for entry in found for name in entry.left_out):
        table += (
            "\n† does not count: the original has it in the band too, or the method trains on it.\n"
        )
    if not any(entry.counted for entry in found):
        table += f"\nNo score about the forgotten can tell here{'' if _has_bands(problem) else ': a band takes two retrained models'}.\n"
    spelled = [f"- `{entry.name}`: `{'`, `'.join(entry.specs)}`" for entry in found if entry.specs]
    table += "\nMethods:\n\n" + "\n".join(spelled) + "\n" if spelled else ""
    return table + ("\nWithout a result:\n\n" + "\n".join(notes) + "\n" if notes else "")


def draw(problem: Problem) -> str:
    """An SVG heat-map: methods × scores, coloured by the mean gap in halves of the band."""
    found = [entry for entry in entries(problem) if entry.counted]
    columns = [name for name in PANEL if any(entry.marks.get(name) for entry in found)]
    lines = [
        Line(entry.name, [_shade(entry, name) for name in columns], _in_band(entry))
        for entry in found
    ]
    return heatmap(problem.title, [label(name) for name in columns], lines, after="in band")


def named(name: str, role: str) -> str:
    """The name as a cell of a markdown table; controls say that they are some."""
    return f"`{name}` (control)" if role == "control" else f"`{name}`"


def _specs(name: str, seeds: Sequence[Sequence[RunRecord]]) -> tuple[str, ...]:
    methods = [
        r.job.get("method")
        for records in seeds
        for r in records
        if r.name == name and r.role in ("unlearned", "control")
    ]
    return tuple(
        dict.fromkeys(str(m["spec"]) for m in methods if isinstance(m, dict) and "spec" in m)
    )


def _entry(
    name: str,
    rows: Sequence[Row],
    unheard: frozenset[str],
    of: tuple[int, tuple[str, ...]],
    scores: Sequence[str],
) -> Entry:
    marks: dict[str, list[Mark]] = {}
    for row in rows:
        for score in scores:
            cell = row.cells.get(score)
            if (
                cell is not None
                and cell.value is not None
                and cell.gap is not None
                and cell.units is not None
            ):
                marks.setdefault(score, []).append(
                    Mark(cell.value, cell.gap, cell.units, cell.verdict == "in")
                )
    left_out = unheard | {score for row in rows for score in row.optimises}
    good = [row.share for row in rows if row.status == "ok"]
    reasons = tuple(
        dict.fromkeys(f"{row.status}: {row.reason}" for row in rows if row.status != "ok")
    )
    seeds, specs = of
    return Entry(
        name,
        rows[0].role,
        marks,
        [s for s in good if s is not None],
        left_out,
        (len(good), seeds),
        reasons,
        specs,
    )


def _has_bands(problem: Problem) -> bool:
    return all(sum(r.role == "oracle" for r in records) > 1 for records in problem.seeds)


def _shade(entry: Entry, name: str) -> Shade | None:
    marks = entry.marks.get(name)
    return (
        Shade(number(fmean(m.value for m in marks)), fmean(m.units for m in marks))
        if marks
        else None
    )


def _cell(entry: Entry, name: str) -> str:
    marks = entry.marks.get(name)
    if not marks:
        return "–"
    inside = " ✓" if all(m.inside for m in marks) else ""
    return f"{number(fmean(m.value for m in marks))}{inside}" + (
        "†" if name in entry.left_out else ""
    )


def _in_band(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    if entry.inside is None:
        return "no result" if not entry.runs[0] else "–"
    few = f" ({entry.runs[0]} of {entry.runs[1]} runs)" if entry.runs[0] < entry.runs[1] else ""
    return f"{entry.inside:.1f}/{len(entry.counted)}{few}"


def _cost(entry: Entry) -> str:
    return percent(median(entry.shares)) if entry.shares else "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"
