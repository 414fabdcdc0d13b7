"""Tables of named columns, whatever file they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""Not 0049: cells that start with a zero are codes, such as postcodes, which a number would
shorten.
"""
_LONGEST_INTEGER = 20
"""Characters; a longer one has more than 64 bits, and int() refuses some thousand digits."""
_ABSENT = ("", "NA", "N/A", "NaN", "nan", "null")
"""What stands for a missing number in text; in a column of words only the empty cell is missing."""


class DataColumn(NamedTuple):
    """One column of a table.

    Args:
        text: The cells as they were written, str objects [N]; "" for an empty one.
        numbers: int64, float64 (NaN for an empty cell) or bool [N] where every cell is a number,
            else None.
    """

    text: np.ndarray
    numbers: np.ndarray | None

    def known(self) -> np.ndarray:
        """The column as an Index takes it."""
        return self.text.astype(np.str_) if self.numbers is None else self.numbers


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


def text_array(cells: Sequence[str]) -> np.ndarray:
    """Strings as an array of objects, so that one long text does not widen all the others."""
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def text_column(cells: Sequence[str]) -> DataColumn:
    """A column of text cells.

    It has numbers where every cell that is not empty, NA, N/A, NaN or null is one.
    """
    stripped = [cell.strip() for cell in cells]
    present = [cell for cell in stripped if cell not in _ABSENT]
    if not all(map(_NUMBER.fullmatch, present)):
        return DataColumn(text_array(cells), None)
    short = all(len(cell) <= _LONGEST_INTEGER for cell in present)
    if len(present) == len(stripped) and short and all(map(_INTEGER.fullmatch, present)):
        whole = [int(cell) for cell in present]
        if all(map(_fits, whole)):
            return DataColumn(text_array(cells), np.array(whole, dtype=np.int64))
    return DataColumn(
        text_array(cells),
        np.array(
            [float("nan") if cell in _ABSENT else float(cell) for cell in stripped],
            dtype=np.float64,
        ),
    )


def typed_column(cells: Sequence[str | float | bool | None]) -> DataColumn:
    """A column of cells that have types.

    It has numbers, or bools, where nothing but None and NaN stands beside them.
    """
    absent = [cell is None or cell != cell for cell in cells]
    text = text_array(
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
