"""The table of a report for the terminal: one row per score, so that it is readable at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

import rich.table
from rich import box
from rich.console import Group
from rich.text import Text

from eigenforget.record import RunRecord
from eigenforget.report.glossary import label
from eigenforget.report.table import Column, Row, Table, build, number, percent, signed

_LABEL, _RETRAINED, _CELL = 22, 13, 8
"""Characters that the scores' names, the retrained models and the narrowest model take, padding included."""


def rich_table(records: Sequence[RunRecord], width: int = 80) -> Group:
    """Score by score: the retrained models' mean and range, then each model's value over its signed gap to that mean.

    Models that do not fit beside each other in `width` characters follow in a further table.
    """
    table = build(records)
    models = [row for row in table.rows if row.role != "oracle"]
    oracles = [row for row in table.rows if row.role == "oracle"]
    blocks = _blocks(models, width - _LABEL - (_RETRAINED if oracles else 0))
    return Group(*(_block(table, oracles, block) for block in blocks), Text(_legend(len(oracles))))


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
        cells = [_reference(table, column)] if oracles else []
        made.add_row(Text(label(column.name)), *cells, *(_cell(row, column.name) for row in models))
    seconds = [_range([row.seconds for row in oracles if row.seconds is not None], digits=1)] if oracles else []
    made.add_row(Text("seconds"), *seconds, *map(_seconds, models))
    return made


def _reference(table: Table, column: Column) -> Text:
    found = table.reference.get(column.name)
    if found is None:
        return Text("-")
    ends = number(found.low), number(found.high)
    return Text(f"{number(found.mean)}\n") + Text("" if ends[0] == ends[1] else "…".join(ends), style="dim")


def _range(values: Sequence[float], *, digits: int) -> Text:
    if not values:
        return Text("-")
    ends = f"{min(values):.{digits}f}…{max(values):.{digits}f}" if len(values) > 1 else ""
    return Text(f"{sum(values) / len(values):.{digits}f}\n") + Text(ends, style="dim")


def _cell(row: Row, name: str) -> Text:
    cell = row.cells.get(name)
    if cell is None or cell.value is None:
        return Text(row.status if row.status != "ok" else "-")
    gap = "" if cell.gap is None else signed(cell.gap)
    return Text(f"{number(cell.value)}\n") + Text(gap, style="dim")


def _seconds(row: Row) -> Text:
    if row.seconds is None:
        return Text("-")
    return Text(f"{row.seconds:.1f}\n") + Text("" if row.share is None else percent(row.share), style="dim")


def _legend(oracles: int) -> str:
    if not oracles:
        return "No retrained model among the records: no gaps. - = not applicable."
    below = "mean and range" if oracles > 1 else "value"
    models = "Models: value, and below it the signed gap to that mean (seconds: share of retraining)"
    return f"retrained: {below}. {models}. - = not applicable."
