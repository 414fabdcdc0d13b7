"""Tables of named columns, whatever file they came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""Not 0049: cells that start with a zero are codes, such as postcodes, which a number would
shorten.
"""
_WITH_COMMA = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:,[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LONGEST_INTEGER = 20
"""Characters; a longer one has more than 64 bits, and int() refuses some thousand digits."""
ABSENT = ("", "NA", "N/A", "NaN", "nan", "null", "?")
"""What stands for a missing number in text; in a column of words only the empty cell is missing."""

UNNAMED = "Unnamed: 0"
"""What pandas calls a first column without a name: mostly the index that it wrote itself."""


@dataclass(frozen=True, eq=False)
class DataColumn:
    """One column of a table.

    Args:
        written: Gives the cells as they were written, str objects [N]; "" for an empty one.
        numbers: int64, float64 (NaN for an empty cell) or bool [N] where every cell is a number,
            else None.
        marks: Words that stand for a missing number in it.
    """

    written: Callable[[], np.ndarray]
    numbers: np.ndarray | None
    marks: frozenset[str] = frozenset()

    @cached_property
    def text(self) -> np.ndarray:
        """The cells as they were written."""
        return self.written()

    def known(self) -> np.ndarray:
        """The column as an Index takes it."""
        return self.text.astype(np.str_) if self.numbers is None else self.numbers

    def missing(self) -> np.ndarray:
        """Which cells have no value, bool [N]."""
        if self.numbers is None:
            return np.asarray(self.text == "")
        return np.asarray(np.isnan(self.numbers))


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Columns of one length.

    Args:
        columns: The columns by name.
        places: Where each row is in the file, [N].
        unit: What `places` counts: "line" or "row".
    """

    columns: Mapping[str, DataColumn]
    places: np.ndarray
    unit: str

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str, role: str) -> DataColumn:
        """The column of this name.

        Raises:
            EigenforgetError: There is none; the message lists the names.
        """
        if name not in self.columns:
            raise EigenforgetError(
                f"there is no column {name!r} ({role}); the columns: {listed(self.columns, 30)}"
            )
        return self.columns[name]

    def where(self, rows: np.ndarray) -> str:
        """The places of the rows that a mask [N] marks, as "line 4" or "lines 4, 7, 9"."""
        places = self.places[rows]
        return f"{self.unit}{'s' if len(places) > 1 else ''} {listed(places)}"


def check_header(names: Sequence[str]) -> None:
    """Checks that columns have names, and each its own.

    Raises:
        EigenforgetError: They have not.
    """
    if not names or "" in names:
        raise EigenforgetError(
            "every column needs a name; the header has: "
            f"{listed([name or repr(name) for name in names], 30) or 'none'}"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EigenforgetError(f"the header repeats the columns {listed(repeated)}")


def without_row_numbers(records: ColumnTable, used: Collection[str]) -> ColumnTable:
    """The table without the index of pandas or R: a first column without a name, of row numbers.

    Args:
        records: The table.
        used: Columns that somebody named, which stay.
    """
    column = records.columns.get(UNNAMED)
    if column is None or column.numbers is None or UNNAMED in used:
        return records
    if column.numbers.dtype.kind != "i" or len(np.unique(column.numbers)) < len(records):
        return records
    notices.warn(
        f"the first column has no name and numbers the rows: it is not used (id={UNNAMED!r} makes "
        "ids of it)"
    )
    left = {name: other for name, other in records.columns.items() if name != UNNAMED}
    return replace(records, columns=left)


def text_array(cells: Sequence[str]) -> np.ndarray:
    """Strings as an array of objects, so that one long text does not widen all the others."""
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def text_column(cells: Sequence[str]) -> DataColumn:
    """A column of text cells.

    It has numbers where every cell that is not empty, NA, N/A, NaN, null or ? is one.
    """
    text = text_array(cells)
    stripped = [cell.strip() for cell in cells]
    present = [cell for cell in stripped if cell not in ABSENT]
    if not all(map(_NUMBER.fullmatch, present)):
        return DataColumn(lambda: text, None)
    marks = frozenset(stripped).intersection(ABSENT)
    short = all(len(cell) <= _LONGEST_INTEGER for cell in present)
    if not marks and short and all(map(_INTEGER.fullmatch, present)):
        whole = [int(cell) for cell in present]
        if all(map(_fits, whole)):
            return DataColumn(lambda: text, np.array(whole, dtype=np.int64))
    numbers = [float("nan") if cell in ABSENT else float(cell) for cell in stripped]
    return DataColumn(lambda: text, np.array(numbers, dtype=np.float64), marks)


def with_decimal_points(column: DataColumn) -> DataColumn | None:
    """The numbers of a column of words that are numbers with decimal commas, such as 1,5.

    None for a column of anything else, and where no cell has a comma.
    """
    stripped = (cell.strip() for cell in column.text)
    if not all(cell in ABSENT or _WITH_COMMA.fullmatch(cell) for cell in stripped):
        return None
    made = text_column([cell.replace(",", ".") for cell in column.text])
    return None if made.numbers is None else DataColumn(column.written, made.numbers, made.marks)


def typed_column(cells: Sequence[str | float | bool | None]) -> DataColumn:
    """A column of cells that have types.

    It has numbers, or bools, where nothing but None and NaN stands beside them.
    """
    absent = [cell is None or cell != cell for cell in cells]

    def text() -> np.ndarray:
        return text_array(
            [
                "" if gone else cell if isinstance(cell, str) else repr(cell)
                for cell, gone in zip(cells, absent, strict=True)
            ]
        )

    kinds = {type(cell) for cell, gone in zip(cells, absent, strict=True) if not gone}
    large = any(type(cell) is int and not _fits(cell) for cell in cells)
    if str in kinds or large or (bool in kinds and len(kinds) > 1):
        return DataColumn(text, None)
    if kinds and not any(absent) and float not in kinds:
        return DataColumn(text, np.array(cells, dtype=bool if bool in kinds else np.int64))
    return DataColumn(
        text, np.array([float("nan") if cell is None else float(cell) for cell in cells])
    )


def _fits(value: int) -> bool:
    return -(2**63) <= value < 2**63
