"""The table of a report for the terminal: a row per score, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

import rich.table
from rich import box
from rich.console import Group
from rich.text import Text

from eigenforget.core.text import joined, listed
from eigenforget.record import RunRecord
from eigenforget.report.glossary import HEADLINE, NAMES, label
from eigenforget.report.table import Column, Row, Table, build, in_units, number, percent, signed
from eigenforget.report.verdict import Verdict, verdicts

_SHORT = {"in": "in", "residual": "res", "over-forgotten": "over", "off": "off", "": ""}
_STYLES = {
    "in": "green",
    "residual": "yellow",
    "over-forgotten": "magenta",
    "off": "cyan",
    "": "dim",
}
_ANSWERS = {"✓": "green", "✗": "red", "?": "yellow"}
_OUTCOMES = {
    "like-retrained": "green",
    "still-remembers": "red",
    "damaged": "red",
    "cannot-tell": "yellow",
}
_LABEL, _RETRAINED, _CELL = 26, 10, 11
"""Characters that the scores' names, the retrained models and the narrowest model take, padding
included.
"""


def rich_table(records: Sequence[RunRecord], width: int = 80) -> Group:
    """The verdict on each model, then score by score the retrained models and each model.

    A model has its value, its gap in half-widths of the band and the verdict. Shown are the scores
    of HEADLINE and those that are not of this package. Models that do not fit beside each other in
    `width` characters follow in a further table.
    """
    table = build(records)
    models, oracles = table.of_role("original", "unlearned", "control"), table.of_role("oracle")
    blocks = _blocks(models, width - _LABEL - (_RETRAINED if oracles else 0))
    own = [c.name for c in table.columns if c.name not in NAMES and "@" not in c.name]
    shown = [c for c in table.columns if c.name in (*HEADLINE, *own)] or list(table.columns)
    shown.sort(key=lambda c: HEADLINE.index(c.name) if c.name in HEADLINE else len(HEADLINE))
    legend = _legend(len(oracles), more=len(table.columns) - len(shown))
    return Group(
        *_verdicts(table),
        *_apart([_block(table._replace(columns=tuple(shown)), oracles, b) for b in blocks]),
        Text(legend),
        *map(Text, _without_value(shown, table)),
    )


def _without_value(columns: Sequence[Column], table: Table) -> list[str]:
    """A line for each reason why shown scores have no value, with these scores.

    It names the models where others have one, or another reason.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        cells = {r.model: r.cells[column.name] for r in table.rows if column.name in r.cells}
        some = any(cell.value is not None for cell in cells.values())
        lacking: dict[str, list[str]] = {}
        for model, cell in cells.items():
            if cell.value is None and cell.reason:
                lacking.setdefault(cell.reason, []).append(model)
        for reason, models in lacking.items():
            of = f" ({listed(models)})" if some or len(lacking) > 1 else ""
            found.setdefault((reason, of), []).append(label(column.name, table))
    return [f"No value of {joined(names)}{of}: {why}" for (why, of), names in found.items()]


def _verdicts(table: Table) -> list[Text | rich.table.Table]:
    """A line for each model with the three answers, and the reason of each that is not yes."""
    said = verdicts(table)
    if not said:
        return []
    grid = rich.table.Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    for head in ("", "verdict", "forgot", "kept", "cost"):
        grid.add_column(head, overflow="fold")
    for v in said:
        answers = [Text(f"{a.sign} {a.answer}", _ANSWERS[a.sign]) for a in v.answers[:2]]
        outcome = Text(v.outcome, _OUTCOMES[v.slug])
        grid.add_row(Text(v.model), outcome, *answers, Text(v.cost.words))
    return [grid, *(Text(line) for v in said for line in _reasons(v)), Text("")]


def _reasons(verdict: Verdict) -> list[str]:
    """Why an answer is not yes; without retrained models both have the same reason."""
    found: dict[str, list[str]] = {}
    for head, answer in (("forgot", verdict.forgot), ("kept", verdict.kept)):
        if answer.answer != "yes":
            found.setdefault(answer.words, []).append(head)
    return [f"{verdict.model}, {joined(heads)}: {words}" for words, heads in found.items()]


def _apart(blocks: Sequence[rich.table.Table]) -> list[Text | rich.table.Table]:
    """The blocks with an empty line between them."""
    return [part for block in blocks for part in (Text(""), block)][1:]


def _blocks(models: Sequence[Row], width: int) -> list[list[Row]]:
    """Models in order, as many beside each other as fit, at least one."""
    blocks: list[list[Row]] = [[]]
    free = width
    for row in models:
        needed = max(_CELL, 2 + max(map(len, _heading(row.model).splitlines())))
        if blocks[-1] and needed > free:
            blocks.append([])
            free = width
        blocks[-1].append(row)
        free -= needed
    return blocks


def _heading(model: str) -> str:
    """The model's name, broken after underscores where it is long."""
    return model if len(model) <= 8 else model.replace("_", "_\n")


def _block(table: Table, oracles: Sequence[Row], models: Sequence[Row]) -> rich.table.Table:
    made = rich.table.Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    made.add_column("")
    if oracles:
        made.add_column("retrained", justify="right", no_wrap=True)
    for row in models:
        # Text, not str: a model named "[red]" is a name, not markup.
        # Folded, not cut: a name longer than the line would lose its end.
        made.add_column(Text(_heading(row.model)), justify="right", overflow="fold")
    for column in table.columns:
        cells = [_of_oracles(table, column)] if oracles else []
        made.add_row(
            Text(label(column.name, table)), *cells, *(_cell(row, column.name) for row in models)
        )
    known = [taken for row in oracles if (taken := _taken(row)) is not None]
    clocks = {row.cost.clock for row in (*oracles, *models) if row.cost is not None}
    seconds = Text("processor seconds" if clocks == {"processor"} else "seconds")
    made.add_row(seconds, *([_range(known)] if oracles else []), *map(_seconds, models))
    return made


def _taken(row: Row) -> float | None:
    """Seconds of the clock by which its cost is compared; wall seconds where it is not."""
    return row.seconds if row.cost is None else row.cost.value * row.cost.retraining


def _of_oracles(table: Table, column: Column) -> Text:
    found = table.oracles.get(column.name)
    if found is None:
        return Text("-")
    half = "" if found.band is None else f"± {number(found.band.half)}"
    return _two_lines(number(found.mean), half)


def _two_lines(above: str, below: str, style: str = "dim") -> Text:
    return Text(f"{above}\n") + Text(below, style=style) if below else Text(above)


def _range(values: Sequence[float]) -> Text:
    if not values:
        return Text("-")
    ends = f"{min(values):.1f}…{max(values):.1f}" if len(values) > 1 else ""
    return _two_lines(f"{sum(values) / len(values):.1f}", ends)


def _cell(row: Row, name: str) -> Text:
    cell = row.cells.get(name)
    if cell is None or cell.value is None:
        return Text(row.status if row.status != "ok" else "-")
    if cell.units is None:
        return _two_lines(number(cell.value), "" if cell.gap is None else signed(cell.gap))
    below = f"{in_units(cell.units)} {_SHORT[cell.verdict]}".strip()
    return _two_lines(number(cell.value), below, _STYLES[cell.verdict])


def _seconds(row: Row) -> Text:
    taken = _taken(row)
    if taken is None:
        return Text("-")
    return _two_lines(f"{taken:.1f}", "" if row.share is None else percent(row.share))


def _legend(oracles: int, *, more: int) -> str:
    rest = f" {more} further scores are in the page and in table.csv." if more > 0 else ""
    end = f"(seconds: share of the cost of retraining). - = not applicable.{rest}"
    if not oracles:
        return (
            "No retrained model among the records: no gaps, no bands. `eigenforget train --without`"
            f" makes one, and `evaluate --oracle` takes it. - = not applicable.{rest}"
        )
    if oracles == 1:
        return (
            "retrained: value of the only one, so there is no band and a small gap may be chance."
            f" Models: value, and below it the signed gap {end}"
        )
    return (
        "retrained: mean ± half-width of the band in which one more retrained model lies with 95 %"
        " probability."
        " Models: value, and below it the gap to that mean in half-widths: in = in the band,"
        " res = residual, a trace is left, over = over-forgotten, off = differs " + end
    )
