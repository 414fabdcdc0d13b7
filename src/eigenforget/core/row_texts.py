"""Rows of columns as texts, for digests: fast with pyarrow, the same texts without it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

_CELLS = 200_000
"""At a time, so that not all texts are in memory at once."""
_FEW = 50_000
"""Cells for which pyarrow need not be imported."""
_SHORTEST, _LARGEST = 1e-4, 1e9
"""Between them, arrow's numbers look like Python's but for a missing ".0"."""


class CellForm(NamedTuple):
    """How a cell stands in the text of its row.

    Args:
        before: What stands before each cell of a column, by the column's number; () for nothing.
        counted: Whether the number of its characters stands before a cell.
        between: What stands between two cells.
        spelled: Gives the text of a value that is no int, bool, float64 or str.
    """

    before: Sequence[str] = ()
    counted: bool = False
    between: str = "\x1f"
    spelled: Callable[[Any], str] = str


def row_texts(
    columns: Sequence[np.ndarray], form: CellForm, order: np.ndarray | None = None
) -> Iterator[str]:
    """The text of each row, its cells joined.

    Args:
        columns: At least one, [N] each.
        form: How cells stand in it.
        order: The rows that are meant, in order; by default all.
    """
    count = len(columns[0]) if order is None else len(order)
    arrow = pyarrow_where_installed() if count * len(columns) >= _FEW else None
    threads = arrow.cpu_count() if arrow is not None and len(columns) > 1 else 1
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        step = max(_CELLS // len(columns), 1)
        for start in range(0, count, step):
            rows = slice(start, start + step) if order is None else order[start : start + step]
            some = [column[rows] for column in columns]
            made = None if arrow is None else _joined(arrow, some, form, pool)
            yield from made or _python_rows(some, form)
    if arrow is not None:
        arrow.default_memory_pool().release_unused()


@functools.cache
def pyarrow_where_installed() -> Any:
    """The library pyarrow with its functions for columns, or None where it is not usable."""
    try:
        importlib.import_module("pyarrow.compute")
        return importlib.import_module("pyarrow")
    except (ImportError, OSError, RuntimeError, AttributeError):  # also a build for another numpy
        return None


def _python_rows(columns: list[np.ndarray], form: CellForm) -> list[str]:
    cells = [_python_cells(column, form.spelled) for column in columns]
    if form.counted:
        cells = [[f"\x1e{len(cell)}\x1f{cell}" for cell in column] for column in cells]
    if form.before:
        cells = [
            [start + cell for cell in column]
            for start, column in zip(form.before, cells, strict=True)
        ]
    return [form.between.join(row) for row in zip(*cells, strict=True)]


def _python_cells(column: np.ndarray, spelled: Callable[[Any], str]) -> list[str]:
    plain = column.dtype == np.float64 or column.dtype.kind in "iubU"
    return [str(value) for value in column.tolist()] if plain else [spelled(v) for v in column]


def _joined(
    arrow: Any, columns: list[np.ndarray], form: CellForm, pool: ThreadPoolExecutor | None
) -> list[str] | None:
    """The rows; None where a text is no Unicode, which arrow does not take."""

    def cells(column: np.ndarray) -> Any:
        return _arrow_cells(arrow, column, form.spelled)

    try:
        made = list(pool.map(cells, columns) if pool else map(cells, columns))
    except (UnicodeError, arrow.ArrowException):
        return None
    parts: list[Any] = []
    for number, column in enumerate(made):
        parts += [form.between] if number and form.between else []
        parts += [form.before[number]] if form.before else []
        parts += [_counts(arrow, column)] if form.counted else []
        parts.append(column)
    joined = arrow.compute.binary_join_element_wise(*parts, "") if len(parts) > 1 else made[0]
    return list(joined.to_pylist())


def _counts(arrow: Any, cells: Any) -> Any:
    """What stands before each cell: the number of its characters between two marks."""
    lengths = arrow.compute.utf8_length(cells)
    most = arrow.compute.max(lengths).as_py()
    if most > 1000:
        return arrow.compute.binary_join_element_wise(
            "\x1e", lengths.cast(arrow.string()), "\x1f", ""
        )
    return arrow.array([f"\x1e{length}\x1f" for length in range(most + 1)]).take(lengths)


def _arrow_cells(arrow: Any, column: np.ndarray, spelled: Callable[[Any], str]) -> Any:
    """The cells as an arrow array of strings, as Python spells them."""
    if column.dtype == np.float64:
        return _floats(arrow, column)
    if column.dtype.kind in "iu":
        return arrow.array(column).cast(arrow.string())
    if column.dtype.kind == "U":
        return arrow.array(column, arrow.string())
    return arrow.array(_python_cells(column, spelled), arrow.string())


def _floats(arrow: Any, column: np.ndarray) -> Any:
    size = np.abs(column)
    with np.errstate(invalid="ignore"):
        plain = ((size >= _SHORTEST) & (size < _LARGEST)) | (size == 0)
        whole = plain & (column == np.floor(column))
    # Not array(column), which looks for pandas each time.
    memory = arrow.py_buffer(np.ascontiguousarray(column))
    numbers = arrow.Array.from_buffers(arrow.float64(), len(column), [None, memory])
    cells = numbers.cast(arrow.string())
    if whole.any():
        dotted = arrow.compute.binary_join_element_wise(cells, ".0", "")
        cells = arrow.compute.if_else(arrow.array(whole), dotted, cells)
    if not plain.all():
        others = arrow.array([repr(value) for value in column[~plain].tolist()], arrow.string())
        cells = arrow.compute.replace_with_mask(cells, arrow.array(~plain), others)
    return cells
