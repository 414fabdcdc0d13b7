"""Methods over experiments and training seeds: scores in the band of retrained models, and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from eigenforget.core.text import joined
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.escaping import markdown_table
from eigenforget.report.figures.svg import Bar, Line, Shade, bar_chart, heatmap
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
"""The scores that may count: a few of each kind, lest a kind that has many decide alone."""

SETTINGS = ("defaults", "recipe", "tuned")
"""Where the settings of a method come from: ours, a published run, or another choice."""

_LEGEND = (
    "In band: scores in the band of the retrained models, of those that can tell here (mean over"
    " training seeds); cost: share of the cost of retraining (median). Controls are cheats, built"
    " to pass some scores."
)


class ExperimentRecords(NamedTuple):
    """A data set, model and request.

    Attributes:
        title: Its name.
        seeds: For each training seed the evaluate records of one table.
    """

    title: str
    seeds: Sequence[Sequence[RunRecord]]


class Mark(NamedTuple):
    """A score of one model on one training seed.

    Attributes:
        value: The score.
        gap: value − mean of the retrained models.
        units: The gap in half-widths of their band.
        inside: Whether it lies in the band.
    """

    value: float
    gap: float
    units: float
    inside: bool


class LeaderboardRow(NamedTuple):
    """A method on an experiment.

    Attributes:
        name: The method.
        role: "unlearned" or "control".
        marks: By score, one for each training seed where it applies.
        shares: Shares of the cost of retraining, by training seed where they are known.
        left_out: Scores that do not count: those that the method trains on, and those that cannot
            tell the original here (`silent`).
        runs: How many runs have a result, of how many training seeds.
        reasons: Why the others have none.
        specs: How the method was spelled.
        settings: The method without its settings, and their kind, one of `SETTINGS`.
    """

    name: str
    role: str
    marks: dict[str, list[Mark]]
    shares: list[float]
    left_out: frozenset[str]
    runs: tuple[int, int]
    reasons: tuple[str, ...]
    specs: tuple[str, ...]
    settings: tuple[str, str] | None = None

    @property
    def counted(self) -> list[str]:
        """The scores that count, in the order of the panel.

        Empty where none is about the forget set: good marks would then be for doing nothing.
        """
        found = [name for name in PANEL if self.marks.get(name) and name not in self.left_out]
        return found if any(group(name) != UTILITY for name in found) else []

    @property
    def inside(self) -> float | None:
        """How many counted scores are in the band, mean over seeds; None where none counts."""
        if not self.counted:
            return None
        return sum(fmean(m.inside for m in self.marks[name]) for name in self.counted)

    @property
    def fraction(self) -> float | None:
        """The share of counted scores in the band; None where none counts."""
        return None if self.inside is None else self.inside / len(self.counted)


def leaderboard_rows(
    experiment: ExperimentRecords, also: Sequence[str] = ()
) -> list[LeaderboardRow]:
    """The unlearned models and controls by name, most scores in band first.

    Methods without a result follow, controls come last.

    Args:
        experiment: The experiment.
        also: Scores beside the panel that get marks and do not count.

    Raises:
        RecordError: The experiment has no records, or a training seed has no retrained models.
    """
    tables = [build(records) for records in experiment.seeds]
    if not tables or not all(table.oracles for table in tables):
        raise RecordError(
            f"{experiment.title}: a leaderboard needs records of retrained models for every "
            "training seed"
        )
    rows: dict[str, list[Row]] = {}
    for table in tables:
        for row in table.of_role("unlearned", "control"):
            rows.setdefault(row.model, []).append(row)
    left_out, specs = silent(tables), _specs(experiment)
    found = [
        LeaderboardRow(
            name,
            of[0].role,
            _marks(of, (*PANEL, *also)),
            [row.share for row in of if row.share is not None],
            left_out | {score for row in of for score in row.optimises},
            (sum(row.has_result for row in of), len(tables)),
            tuple(dict.fromkeys(f"{r.status}: {r.reason}" for r in of if not r.has_result)),
            tuple(specs.get(name, {})),
            _settings(specs.get(name, {})),
        )
        for name, of in rows.items()
    ]
    return sorted(
        found, key=lambda e: (e.role == "control", e.fraction is None, -(e.fraction or 0.0), e.name)
    )


def silent(tables: Sequence[Table], scores: Sequence[str] = PANEL) -> frozenset[str]:
    """Scores that call the original retrained on more than half of the training seeds.

    They would reward doing nothing. What measures retained data counts in any case.
    """
    found = set()
    for name in scores:
        cells = [
            row.cells[name]
            for table in tables
            for row in table.of_role("original")
            if name in row.cells
        ]
        inside = [cell.verdict == "in" for cell in cells if cell.units is not None]
        if group(name) != UTILITY and 2 * sum(inside) > len(inside):
            found.add(name)
    return frozenset(found)


class BoardLine(NamedTuple):
    """A method on all experiments.

    Attributes:
        name: The method.
        role: "unlearned" or "control".
        mean: Its mean share of counted scores in the band; None unless each experiment has one.
        cost: Median share of the cost of retraining; None where it is unknown.
        rows: Its row of each experiment, None where it was not run.
    """

    name: str
    role: str
    mean: float | None
    cost: float | None
    rows: list[LeaderboardRow | None]

    @property
    def mark(self) -> str:
        """Says beside the name that these are the settings of a published run; else ""."""
        kinds = {row.settings[1] for row in self.rows if row is not None and row.settings}
        return ", recipe" if kinds == {"recipe"} else ""


def board_lines(found: Sequence[Mapping[str, LeaderboardRow]]) -> list[BoardLine]:
    """A line per method: best mean share in band first, then those without one, controls last.

    An experiment on which no score about the forget set can tell is in no mean.

    Args:
        found: The rows of each experiment, by method.
    """
    telling = [any(row.fraction is not None for row in each.values()) for each in found]
    lines = []
    for name in dict.fromkeys(name for each in found for name in each):
        own = [each.get(name) for each in found]
        known = [row for row in own if row is not None]
        fractions = [row.fraction for row in known if row.fraction is not None]
        mean = fmean(fractions) if len(fractions) == sum(telling) > 0 else None
        costs = [share for row in known for share in row.shares]
        lines.append(BoardLine(name, known[0].role, mean, median(costs) if costs else None, own))
    return sorted(
        lines,
        key=lambda line: (line.role == "control", line.mean is None, -(line.mean or 0), line.name),
    )


def leaderboard_table(experiments: Sequence[ExperimentRecords], *, picture: str = "") -> str:
    """The leaderboard in markdown: a sentence, a picture, and a line per method.

    Args:
        experiments: The experiments; their titles may be links.
        picture: Path of the file with `leaderboard_picture`, from the document; "" for none.
    """
    found = _by_name(experiments)
    lines = board_lines(found)
    cells = [
        [
            method_cell(line.name, role=line.role) + line.mark,
            "–" if line.mean is None else percent(line.mean),
            *map(_in_band, line.rows),
            "–" if line.cost is None else percent(line.cost),
        ]
        for line in lines
    ]
    head = ["method", "in band", *(experiment.title for experiment in experiments), "cost"]
    notes = "".join(
        f"\nNo score about the forget set can tell here, so it is in no mean: {experiment.title}.\n"
        for experiment, each in zip(experiments, found, strict=True)
        if not any(row.fraction is not None for row in each.values())
    )
    shown = f"![share of scores in the band, by method]({picture})\n\n" if picture else ""
    return (
        f"{_board_sentence(lines, len(experiments))}{shown}{_table(head, cells)}\n{_LEGEND}\n"
        f"{notes}{by_settings(found)}"
    )


def leaderboard_picture(experiments: Sequence[ExperimentRecords]) -> str:
    """An SVG bar for each method with a result on every experiment: its mean share in the band."""
    lines = [line for line in board_lines(_by_name(experiments)) if line.mean is not None]
    bars = [
        Bar(
            f"{line.name} (control)" if line.role == "control" else line.name + line.mark,
            line.mean or 0.0,
            percent(line.mean or 0.0)
            + ("" if line.cost is None else f", cost {percent(line.cost)}"),
            muted=line.role == "control",
        )
        for line in lines
    ]
    return bar_chart("Share of scores in the band of retrained models", bars)


def _by_name(experiments: Sequence[ExperimentRecords]) -> list[dict[str, LeaderboardRow]]:
    return [{row.name: row for row in leaderboard_rows(experiment)} for experiment in experiments]


def _board_sentence(lines: Sequence[BoardLine], experiments: int) -> str:
    """Which method has most scores in the band; "" where none has a mean."""
    if not lines or lines[0].mean is None or lines[0].role == "control":
        return ""
    best = lines[0]
    share = percent(lines[0].mean)
    first = [
        line
        for line in lines
        if line.role != "control" and line.mean is not None and percent(line.mean) == share
    ]
    where = "" if experiments == 1 else f" over {experiments} experiments"
    if len(first) > 1:
        names = joined([f"`{line.name}`" for line in first])
        return f"{names} share the first place{where}: {share} of the scores in the band.\n\n"
    cost = "" if best.cost is None else f", at {percent(best.cost)} of the cost of retraining"
    return f"`{best.name}` has most scores in the band{where}: {share}{cost}.\n\n"


def by_settings(found: Sequence[Mapping[str, LeaderboardRow]]) -> str:
    """A markdown table of the mean share in band with defaults, a recipe and settings of your own.

    A method has a line if it was run with settings of several kinds. Means are over the experiments
    on which it was run with all of these. "" if there are none.

    Args:
        found: The rows of each experiment.
    """
    shares = [_shares_by_settings(rows.values()) for rows in found]
    lines = []
    for method in sorted({method for each in shares for method in each}):
        kinds = {kind for each in shares for kind in each.get(method, {})}
        whole = [each[method] for each in shares if set(each.get(method, {})) == kinds]
        if len(kinds) > 1 and whole:
            means = {kind: fmean(fmean(own[kind]) for own in whole) for kind in kinds}
            cells = (percent(means[kind]) if kind in means else "–" for kind in SETTINGS)
            lines.append([f"`{method}`", *cells])
    if not lines:
        return ""
    return (
        f"\n{_table(['method', *SETTINGS], lines)}\nIn band by settings: our defaults, a published"
        " run, and other settings, such as those that a search found (the mean of several); on"
        " experiments with all of a method's kinds.\n"
    )


def _shares_by_settings(rows: Iterable[LeaderboardRow]) -> dict[str, dict[str, list[float]]]:
    """The shares in band of one experiment, by method and kind of settings."""
    shares: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.settings is not None and row.fraction is not None:
            method, kind = row.settings
            shares.setdefault(method, {}).setdefault(kind, []).append(row.fraction)
    return shares


def details(experiment: ExperimentRecords, *, picture: str = "") -> str:
    """One experiment in markdown: a sentence, a picture, and the mean of each score over the seeds.

    Below the methods stand the original and the retrained models, with the half-width of the band.
    ✓: in band on every training seed; †: it does not count. How each method was spelled is folded.

    Args:
        experiment: The experiment.
        picture: Path of the file with `experiment_figure`, from the document; "" for none.
    """
    found = leaderboard_rows(experiment)
    columns = [name for name in PANEL if any(row.marks.get(name) for row in found)]
    rows = [
        [
            method_cell(row.name, role=row.role),
            *(_cell(row, name) for name in columns),
            _in_band(row),
            percent(median(row.shares)) if row.shares else "–",
        ]
        for row in found
    ] + _yardsticks(experiment, columns)
    lines = board_lines([{row.name: row for row in found}])
    shown = f"![scores of each method, by their gap to the band]({picture})\n\n" if picture else ""
    table = _table(["method", *map(label, columns), "in band", "cost"], rows)
    text = f"{_board_sentence(lines, 1)}{shown}{table}"
    if any(row.marks.get(name) for row in found for name in row.left_out):
        text += (
            "\n† does not count: the original has it in the band too, or the method trains on it.\n"
        )
    if not any(row.counted for row in found):
        banded = all(sum(r.role == "oracle" for r in records) > 1 for records in experiment.seeds)
        why = "" if banded else ": a band takes two retrained models"
        text += f"\nNo score about the forget set can tell here{why}.\n"
    spelled = [f"- `{row.name}`: `{'`, `'.join(row.specs)}`" for row in found if row.specs]
    notes = dict.fromkeys(f"- `{row.name}`: {reason}" for row in found for reason in row.reasons)
    for title, listed in (("Methods", spelled), ("Without a result", list(notes))):
        inside = "\n".join(listed)
        fold = f"\n<details>\n<summary>{title}</summary>\n\n{inside}\n\n</details>\n"
        text += fold if listed else ""
    return text


def _yardsticks(experiment: ExperimentRecords, columns: Sequence[str]) -> list[list[str]]:
    """The rows of the original and of the retrained models: means over the training seeds."""
    tables = [build(records) for records in experiment.seeds]

    def shown(values: Iterable[float | None]) -> str:
        known = [value for value in values if value is not None]
        return number(fmean(known)) if known else ""

    before, after = [], []
    for name in columns:
        known = [t.oracles[name] for t in tables if name in t.oracles]
        half = shown(r.band.half for r in known if r.band is not None)
        before.append(shown(table.original.get(name) for table in tables) or "–")
        after.append(shown(r.mean for r in known) + (f" ± {half}" if half else ""))
    return [
        ["original", *before, "", ""],
        ["**retrained models**", *after, "", percent(1.0)],
    ]


def experiment_figure(experiment: ExperimentRecords) -> str:
    """An SVG heat map: methods × scores, coloured by the mean gap in half-widths of the band."""
    found = [row for row in leaderboard_rows(experiment) if row.counted]
    columns = [name for name in PANEL if any(row.marks.get(name) for row in found)]
    lines = [
        Line(row.name, [_shade(row, name) for name in columns], _in_band(row)) for row in found
    ]
    return heatmap(experiment.title, [label(name) for name in columns], lines, after="in band")


def method_cell(name: str, *, role: str) -> str:
    """The method's name as a cell of a markdown table; of a control it says that it is one."""
    return f"`{name}` (control)" if role == "control" else f"`{name}`"


def _specs(experiment: ExperimentRecords) -> dict[str, dict[str, bool]]:
    """How each method was spelled, and whether that is a recipe's spelling, by its name."""
    found: dict[str, dict[str, bool]] = {}
    for records in experiment.seeds:
        for r in records:
            method = r.job.get("method")
            if r.role in ("unlearned", "control") and isinstance(method, dict) and "spec" in method:
                whole = "recipe" in method and not method.get("recipe_changed")
                found.setdefault(r.name, {})[str(method["spec"])] = whole
    return found


def _settings(specs: Mapping[str, bool]) -> tuple[str, str] | None:
    """The method and the kind of its settings; None without a spec, or where specs differ in it."""
    kinds = {
        (spec.partition("(")[0], "recipe" if recipe else "tuned" if "=" in spec else "defaults")
        for spec, recipe in specs.items()
    }
    return kinds.pop() if len(kinds) == 1 else None


def _marks(rows: Sequence[Row], scores: Sequence[str]) -> dict[str, list[Mark]]:
    marks: dict[str, list[Mark]] = {}
    for row in rows:
        for score in scores:
            cell = row.cells.get(score)
            if cell is None or cell.value is None or cell.gap is None or cell.units is None:
                continue
            mark = Mark(cell.value, cell.gap, cell.units, cell.verdict == "in")
            marks.setdefault(score, []).append(mark)
    return marks


def _shade(row: LeaderboardRow, name: str) -> Shade | None:
    marks = row.marks.get(name)
    if not marks:
        return None
    return Shade(number(fmean(m.value for m in marks)), fmean(m.units for m in marks))


def _cell(row: LeaderboardRow, name: str) -> str:
    marks = row.marks.get(name)
    if not marks:
        return "–"
    inside = " ✓" if all(m.inside for m in marks) else ""
    counts = "†" if name in row.left_out else ""
    return f"{number(fmean(m.value for m in marks))}{inside}{counts}"


def _in_band(row: LeaderboardRow | None) -> str:
    if row is None:
        return "–"
    good, seeds = row.runs
    if row.inside is None:
        return "–" if good else "no result"
    few = f" ({good} of {seeds} runs)" if good < seeds else ""
    return f"{row.inside:.1f}/{len(row.counted)}{few}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in (head, *rows)]
    return markdown_table(escaped[0], escaped[1:]) + "\n"
