"""where: a comparison of one column."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates
from eigenforget.requests.typed import ColumnValue, check_same, family

_ORDERS: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@configured
class Where:
    """Forget every training sample for which the comparison `column op value` is true.

    The column is "label", "group", "id" or a further column of the data. Strings are ordered by
    code point, so dates such as 2024-05-31 are in time order. NaN equals nothing and has no order,
    so only "!=" selects it.
    """

    name: ClassVar[str] = "where"
    personal: ClassVar[dict[str, str]] = {"value": "column:{column}"}
    column: Annotated[str, "'label', 'group', 'id' or a further column of the data"]
    op: Annotated[
        Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains"],
        "'in' takes a tuple of values, 'contains' a part of a string",
    ] = "=="
    value: Annotated[
        ColumnValue | tuple[ColumnValue, ...],
        "string, number or bool of the column's type",
    ]
    duplicates: Duplicates = "error"

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Where:
        if (self.op == "in") != isinstance(self.value, tuple):
            raise ValueError("'in', and no other op, takes a tuple of values, as in value=(1, 2)")
        if self.value in ((), "") and self.op in ("in", "contains"):
            raise ValueError(f"the value of {self.op!r} is empty")
        return self

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget.

        Raises:
            EigenforgetError: The column does not exist or holds another type than the value, bools
                are ordered, or "contains" is asked of a column without strings.
        """
        column = index.column(self.column)
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        for value in values:
            check_same(column, value, name=self.column, op=self.op)
        return np.flatnonzero(self._true(column, values))

    def _true(self, column: np.ndarray, values: tuple[ColumnValue, ...]) -> np.ndarray:
        if self.op in ("==", "in", "!="):
            same: np.ndarray = np.logical_or.reduce([column == value for value in values])
            return ~same if self.op == "!=" else same
        held = family(column)
        if self.op == "contains":
            if held != "strings":
                raise EigenforgetError(
                    f"the column {self.column!r} holds {held}; 'contains' looks for a part of "
                    "strings"
                )
            return np.char.find(column, str(values[0])) >= 0
        if held == "bools":
            raise EigenforgetError(
                f"the column {self.column!r} holds bools, which have no order; use == or !="
            )
        return _ORDERS[self.op](column, values[0])
