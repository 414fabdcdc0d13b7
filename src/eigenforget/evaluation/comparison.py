"""`compare_seeds`: evaluations of the same methods on several training seeds, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Literal

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.evaluation.evaluate import Evaluation, own_errors
from eigenforget.record import write_text
from eigenforget.report import escaping
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.pages.leaderboard import (
    PANEL,
    ExperimentRecords,
    LeaderboardRow,
    details,
    experiment_figure,
    leaderboard_rows,
)
from eigenforget.report.table import Table, build, number, percent

_LATEX_END = ("\\bottomrule", "\\end{tabular}", "")


@dataclass(frozen=True, repr=False)
class SeedComparison:
    """Methods over training seeds; printed, a markdown table.

    Attributes:
        experiment: The title, and for each training seed the records of one evaluation.
    """

    experiment: ExperimentRecords

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_markdown(self) -> str:
        """A line for each method: the mean of each score, which are in the band, and the cost."""
        with own_errors():
            return details(self.experiment)

    def to_latex(self, scores: Sequence[str] = ()) -> str:
        """A LaTeX tabular with the rules of booktabs: mean ± standard deviation over the seeds.

        Bold scores lie in the band of the retrained models on every seed.

        Args:
            scores: The scores to show; the headline scores by default.

        Raises:
            EigenforgetError: A score is unknown.
        """
        names = list(scores) or [name for name in HEADLINE if name in self._scores]
        if unknown := [name for name in names if name not in self._scores]:
            raise EigenforgetError(
                f"unknown score {unknown[0]!r}; there are: {listed(self._scores)}"
            )
        with own_errors():
            rows = leaderboard_rows(self.experiment, [n for n in names if n not in PANEL])
        lines = [
            self._line("retrained", "oracle", names),
            self._line("original", "original", names),
        ]
        lines += [[escaping.latex(row.name), *_latex_cells(row, names)] for row in rows]
        head = ["", *(escaping.latex(label(name)) for name in names), "cost"]
        body = [" & ".join(cells) + r" \\" for cells in (head, *lines)]
        start = [rf"\begin{{tabular}}{{l{'r' * (len(names) + 1)}}}", r"\toprule"]
        return "\n".join([*start, body[0], r"\midrule", *body[1:], *_LATEX_END])

    def to_svg(self) -> str:
        """Methods × scores, coloured by the mean gap in half-widths of the band."""
        with own_errors():
            return experiment_figure(self.experiment)

    def figure(self, path: str | Path) -> Path:
        """Writes the picture of `to_svg` into a file; returns its path."""
        with own_errors():
            return write_text(Path(path), self.to_svg())

    @cached_property
    def _tables(self) -> list[Table]:
        return [build(records) for records in self.experiment.seeds]

    @cached_property
    def _scores(self) -> list[str]:
        return list(dict.fromkeys(column.name for t in self._tables for column in t.columns))

    def _line(
        self, title: str, role: Literal["original", "oracle"], names: Sequence[str]
    ) -> list[str]:
        rows = [row for table in self._tables for row in table.of_role(role)]
        found = [[row.cells[n].value for row in rows if n in row.cells] for n in names]
        cells = [_spread([v for v in values if v is not None]) for values in found]
        return [title, *cells, r"100\,\%" if role == "oracle" else "--"]


def compare_seeds(
    evaluations: Sequence[Evaluation], *, title: str = "Comparison"
) -> SeedComparison:
    """Sets the evaluations of several training seeds side by side.

    Each evaluation has the same methods, under the same names. The retrained models may be the same
    or differ.

    Args:
        evaluations: What `evaluate` found, one for each training seed.
        title: The title of the figure.

    Returns:
        The comparison: a table, LaTeX and a figure.

    Raises:
        EigenforgetError: There is no evaluation, or one has other models than the first.
    """
    if not evaluations or not all(isinstance(found, Evaluation) for found in evaluations):
        raise EigenforgetError("compare_seeds needs a list of evaluations, as evaluate gives them")
    first, *others = (set(found) for found in evaluations)
    for place, names in enumerate(others, start=2):
        if names != first:
            raise EigenforgetError(
                f"evaluation {place} and the first one have different models: "
                f"{listed(sorted(names ^ first))}"
            )
    return SeedComparison(ExperimentRecords(title, [found.records for found in evaluations]))


def _latex_cells(row: LeaderboardRow, names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        marks = row.marks.get(name, [])
        text = _spread([mark.value for mark in marks])
        inside = marks and all(mark.inside for mark in marks)
        cells.append(rf"$\mathbf{{{text.strip('$')}}}$" if inside else text)
    cost = escaping.latex(percent(median(row.shares))) if row.shares else "--"
    return [*cells, cost]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "--"
    if len(values) == 1:
        return f"${number(values[0])}$"
    return rf"${number(fmean(values))} \pm {number(stdev(values))}$"
