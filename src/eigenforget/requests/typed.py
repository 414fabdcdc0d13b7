"""Types of columns and of the values they are compared with.

Each has one type: a number is never taken for a string.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Index

ColumnValue = str | bool | int | float
Family = Literal["strings", "numbers", "bools"]

_FAMILIES: dict[str, Family] = {
    "U": "strings",
    "i": "numbers",
    "u": "numbers",
    "f": "numbers",
    "b": "bools",
}


def family(column: np.ndarray) -> Family:
    """What the column holds.

    Raises:
        EigenforgetError: Anything but strings, numbers or bools.
    """
    if column.dtype.kind not in _FAMILIES:
        raise EigenforgetError(
            f"a column of {column.dtype} cannot be compared; it must hold strings, numbers or bools"
        )
    return _FAMILIES[column.dtype.kind]


def family_of(value: ColumnValue) -> Family:
    """The family of one value; True is a bool and not the number 1."""
    return (
        "bools" if isinstance(value, bool) else "strings" if isinstance(value, str) else "numbers"
    )


def check_same(column: np.ndarray, value: ColumnValue, *, name: str, op: str) -> None:
    """Checks that a column and a value are of one type.

    Raises:
        EigenforgetError: They are not; the message names both.
    """
    held, given = family(column), family_of(value)
    if held != given:
        hint = "; quote it to make it a string" if held == "strings" else ""
        raise EigenforgetError(
            f"the column {name!r} holds {held} ({column.dtype.name}) and {value!r} is a "
            f"{given[:-1]}: "
            f"{op} cannot compare them{hint}"
        )


def rows_with(index: Index, name: str, value: ColumnValue | tuple[ColumnValue, ...]) -> np.ndarray:
    """Positions of the samples whose column has this value, or one of these.

    Raises:
        EigenforgetError: The column or a value does not exist, or a value is of another type.
    """
    column = index.column(name)
    wanted = value if isinstance(value, tuple) else (value,)
    if not wanted:
        raise EigenforgetError(f"no value of the column {name!r} is given")
    for item in wanted:
        check_same(column, item, name=name, op="==")
    found = {item: column == item for item in wanted}
    missing = [repr(item) for item, rows in found.items() if not rows.any()]
    if missing:
        known = np.unique(column)
        raise EigenforgetError(
            f"no sample has {name} {listed(missing)}; the column has: {listed(known, 20)}"
        )
    return np.flatnonzero(np.logical_or.reduce(list(found.values())))
