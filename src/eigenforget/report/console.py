"""The table of a report for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import rich.table
from rich.text import Text

from eigenforget.record import RunRecord
from eigenforget.report.glossary import label
from eigenforget.report.table import Row, build, number, percent, signed


def rich_table(records: Sequence[RunRecord]) -> rich.table.Table:
    """One row per model: `0.978 (+0.010)` is the value and its signed gap to the mean of the retrained models."""
    table = build(records)
    made = rich.table.Table(caption=_legend(table.reference != {}), caption_justify="left")
    made.add_column("model", no_wrap=True)
    made.add_column("role")
    for column in table.columns:
        made.add_column(Text(label(column.name)), justify="right")
    made.add_column("seconds", justify="right")
    for row in table.rows:
        # Text, not str: a model named "[red]" is a name, not markup.
        shown = [Text(row.model), Text(row.role if row.status == "ok" else f"{row.role}, {row.status}")]
        made.add_row(*shown, *(_cell(row, column.name) for column in table.columns), _seconds(row))
    return made


def _cell(row: Row, name: str) -> Text:
    cell = row.cells.get(name)
    if cell is None or cell.value is None:
        return Text("-")
    return Text(number(cell.value) + ("" if cell.gap is None else f" ({signed(cell.gap)})"))


def _seconds(row: Row) -> Text:
    if row.seconds is None:
        return Text("-")
    return Text(f"{row.seconds:.1f}" + ("" if row.share is None else f" ({percent(row.share)})"))


def _legend(has_reference: bool) -> str:
    if not has_reference:
        return "No retrained model among the records: no gaps. - = not applicable."
    return "value (signed gap to the mean of the retrained models); seconds (share of retraining); - = not applicable"
