"""The table of a report for other tools: CSV, markdown, LaTeX, and rows for further formats."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.core.extras import needed
from eigenforget.core.text import listed, suggested
from eigenforget.record import RecordError, RunRecord, atomic_file
from eigenforget.report import escaping
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.requirements import ALIASES
from eigenforget.report.table import Cell, Table, build, in_units, number, signed
from eigenforget.report.verdict import verdicts

Value = str | float | None
"""A cell of a frame; None: there is no value."""

LEGEND = (
    "In square brackets: the interval of a score. In round ones: the gap to the mean of the"
    " retrained models; the same in half-widths of the band in which one more retrained model lies"
    " with 95 % probability, and what follows from it. A retrained model is compared with the band"
    " of the others."
)

_FIRST = ("model", "role", "status")
_NOTHING = Cell(None, None, None, None, "")


class Frame(NamedTuple):
    """A row for each model.

    Attributes:
        names: The columns.
        texts: The columns that hold text; the others hold numbers.
        rows: The rows.
    """

    names: tuple[str, ...]
    texts: frozenset[str]
    rows: tuple[tuple[Value, ...], ...]


class _Grid(NamedTuple):
    """Cells as they are written; `mean`, of the retrained models, is [] where there are none."""

    head: list[str]
    mean: list[str]
    rows: list[list[str]]


class _Style(NamedTuple):
    """How a document writes names, numbers, a sign between them, and that there is nothing."""

    text: Callable[[str], str]
    number: Callable[[str], str]
    plus_minus: str
    missing: str


_POWER = re.compile(r"e([+-])0*(\d+)")


def _power(found: re.Match[str]) -> str:
    return rf" \cdot 10^{{{found[1].replace('+', '')}{found[2]}}}"


_MARKDOWN = _Style(
    escaping.markdown, lambda text: text.replace("<", "&lt;").replace(">", "&gt;"), " ± ", "–"
)
_LATEX = _Style(escaping.latex, lambda text: f"${_POWER.sub(_power, text)}$", r" $\pm$ ", "--")


def frame(records: Sequence[RunRecord], scores: Sequence[str] = ()) -> Frame:
    """model, role, status and the verdict, then columns for each score, last the seconds.

    A score has NAME, NAME_gap (to the retrained models' mean), NAME_units (the gap in half-widths
    of their band), NAME_verdict, and NAME_low and NAME_high where a model has an interval.

    Args:
        records: Evaluate records.
        scores: Which scores, in this order; none: all.

    Raises:
        RecordError: A score is unknown, or two columns would have one name.
    """
    table = build(records)
    columns: dict[str, list[Value]] = {
        part: [getattr(row, part) for row in table.rows] for part in _FIRST
    }
    said = {v.model: v for v in verdicts(table)}
    columns["verdict"] = [said[r.model].slug if r.model in said else None for r in table.rows]
    for score in chosen_scores(table, scores):
        cells = [row.cells.get(score, _NOTHING) for row in table.rows]
        bounded = any(cell.low is not None or cell.high is not None for cell in cells)
        for part in ("value", "gap", "units", "verdict", *(("low", "high") if bounded else ())):
            name = score if part == "value" else f"{score}_{part}"
            if name in columns:
                raise RecordError(
                    f"two columns would be named {name!r}; choose scores of which only one has it"
                )
            columns[name] = [
                getattr(cell, part) if getattr(cell, part) != "" else None for cell in cells
            ]
    columns["seconds"] = [row.seconds for row in table.rows]
    texts = {*_FIRST, "verdict", *(name for name in columns if name.endswith("_verdict"))}
    return Frame(tuple(columns), frozenset(texts), tuple(zip(*columns.values(), strict=True)))


def to_csv(records: Sequence[RunRecord], scores: Sequence[str] = ()) -> str:
    """The frame as CSV: numbers in full precision, nothing where there is no value."""
    found = frame(records, scores)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(found.names)
    writer.writerows(
        ["" if v is None else v if isinstance(v, str) else repr(v) for v in row]
        for row in found.rows
    )
    return text.getvalue()


def write_parquet(
    records: Sequence[RunRecord],
    path: Path,
    scores: Sequence[str] = (),
    *,
    overwrite: bool = True,
) -> Path:
    """Writes the table of `frame` as Parquet: text, or float64 with null where there is no value.

    Args:
        records: Evaluate records.
        path: The file.
        scores: Names of the scores; all by default.
        overwrite: Whether an existing file is replaced.

    Raises:
        EigenforgetError: pyarrow is not installed.
        RecordError: A score is unknown, or the file cannot be written.
    """
    arrow, parquet = (
        needed(name, extra="tables", what="the Parquet format")
        for name in ("pyarrow", "pyarrow.parquet")
    )
    found = frame(records, scores)
    types = [arrow.string() if name in found.texts else arrow.float64() for name in found.names]
    columns = list(zip(*found.rows, strict=True))
    arrays = [arrow.array(c, t) for c, t in zip(columns, types, strict=True)]
    with atomic_file(path, overwrite=overwrite) as draft:
        parquet.write_table(arrow.table(arrays, names=list(found.names)), draft)
    return path


def to_markdown(records: Sequence[RunRecord], scores: Sequence[str] = ()) -> str:
    """A markdown table of these scores, or of the headline ones, a line for each model."""
    grid = _grid(build(records), scores, _MARKDOWN)
    rows = [grid.mean, *grid.rows] if grid.mean else grid.rows
    return f"{escaping.markdown_table(grid.head, rows)}\n\n{LEGEND}\n"


def to_latex(records: Sequence[RunRecord], scores: Sequence[str] = ()) -> str:
    r"""The same as a LaTeX tabular with the lines of booktabs, for a table environment."""
    grid = _grid(build(records), scores, _LATEX)

    def line(cells: Iterable[str]) -> str:
        return f"{' & '.join(cells)} \\\\"

    lines = [
        r"% needs \usepackage{booktabs}",
        f"% {LEGEND}",
        rf"\begin{{tabular}}{{{'l' * len(grid.head)}}}",
        r"\toprule",
        line(grid.head),
        r"\midrule",
        *([line(grid.mean), r"\midrule"] if grid.mean else []),
        *map(line, grid.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def chosen_scores(
    table: Table, scores: Sequence[str], default: Sequence[str] = ()
) -> tuple[str, ...]:
    """The scores by name or alias; without any those of `default` that the table has, or all.

    Raises:
        RecordError: The table lacks one of them; the message names the nearest that it has.
    """
    known = [column.name for column in table.columns]
    wanted = tuple(
        dict.fromkeys(ALIASES.get(name, name) if name not in known else name for name in scores)
    )
    for name in wanted:
        if name not in known:
            cure = suggested(name, known, most=3) or f"; they have {listed(known)}"
            raise RecordError(f"these records have no score {name!r}{cure}")
    return wanted or tuple(name for name in default if name in known) or tuple(known)


def _grid(table: Table, scores: Sequence[str], style: _Style) -> _Grid:
    names = chosen_scores(table, scores, HEADLINE)
    means = [_mean(table, name, style) for name in names]
    return _Grid(
        [*_FIRST, *(style.text(label(name, table)) for name in names)],
        ["retrained, mean", style.missing, style.missing, *means] if table.oracles else [],
        [
            [style.text(row.model), row.role, row.status]
            + [_cell(row.cells.get(name), style) for name in names]
            for row in table.rows
        ],
    )


def _mean(table: Table, name: str, style: _Style) -> str:
    found = table.oracles.get(name)
    if found is None:
        return style.missing
    mean = style.number(number(found.mean))
    if found.band is None:
        return mean
    return f"{mean}{style.plus_minus}{style.number(number(found.band.half))}"


def _cell(cell: Cell | None, style: _Style) -> str:
    if cell is None or cell.value is None:
        return style.missing
    ends = ""
    if cell.low is not None and cell.high is not None:
        ends = " " + style.number(f"[{number(cell.low)}, {number(cell.high)}]")
    said = [] if cell.gap is None else [style.number(signed(cell.gap))]
    if cell.units is not None:
        said.append(f"{style.number(in_units(cell.units))}, {cell.verdict}")
    beside = f" ({'; '.join(said)})" if said else ""
    return style.number(number(cell.value)) + ends + beside
