"""From the columns of a table to input vectors.

Numbers are standardised, categories become one-hot vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.row_texts import CellForm, row_texts
from eigenforget.core.text import joined, listed
from eigenforget.data.bundle import standardised
from eigenforget.data.columns import ABSENT, ColumnTable, text_column
from eigenforget.data.normalisation import Normalisation
from eigenforget.data.rows import SIDES, Rows
from eigenforget.record import value_digest

Missing = Literal["error", "mean"]
_MOST_CATEGORIES = 1000
"""A column with more categories is an identifier, and would make as many inputs."""


class Features(NamedTuple):
    """Names of the columns that are inputs."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


def features_of(records: ColumnTable, used: Sequence[str], categorical: Sequence[str]) -> Features:
    """The columns that are inputs: all that are not used otherwise, in the order of the file.

    The unnamed index that pandas writes is never an input.

    Args:
        records: The table.
        used: Names of columns that are used otherwise.
        categorical: Names of columns that hold categories.

    Raises:
        EigenforgetError: A categorical column does not exist or is used otherwise, a numeric column
            holds words, or no column is left.
    """
    for name in categorical:
        records.column(name, "categorical")
        if name in used:
            raise EigenforgetError(
                f"column {name!r} is categorical, so an input, but is also named as something else"
            )
    left = [
        name
        for name in records.columns
        if name not in used and not name.startswith("__index_level_")
    ]
    if not left:
        raise EigenforgetError(
            f"no column is left as an input; the columns: {listed(records.columns, 30)}"
        )
    numeric = tuple(name for name in left if name not in categorical)
    wordy = [
        f"{name!r} ({_first_word(records, name)})"
        for name in numeric
        if records.columns[name].numbers is None
    ]
    if wordy:
        raise EigenforgetError(
            f"columns hold words: {listed(wordy, 20)}; name them in categorical=(…) or drop=(…)"
        )
    return Features(numeric, tuple(name for name in left if name in categorical))


class EncodedRows(NamedTuple):
    """Rows as input vectors.

    Attributes:
        inputs: float32 [N, D] by side.
        normalisation: What was done to the numbers; None where there are none.
        encoding: Digest of the columns, and of the categories that became inputs.
    """

    inputs: dict[str, Tensor]
    normalisation: Normalisation | None
    encoding: str


def encoded(
    records: ColumnTable,
    features: Features,
    rows: Rows,
    *,
    missing: Missing,
    normalize: str = "train",
) -> EncodedRows:
    """The input vectors.

    First come the numeric columns, standardised with the mean and standard deviation of the
    training rows unless `normalize` says otherwise. Then each categorical column has one input per
    category of the training rows, 1 if the row is of that category. A category that no training row
    has, and with missing="mean" an empty cell, is 0 in all of them. A missing number becomes the
    mean of the training rows before the standardisation.

    Args:
        records: The table.
        features: Which columns are inputs.
        rows: The sides.
        missing: What to do with missing values.
        normalize: As in from_arrays; without a numeric column there is nothing to normalise.

    Raises:
        EigenforgetError: Values are missing where that is an error, or numbers are infinite.
    """
    blocks: dict[str, list[Tensor]] = {side: [] for side in SIDES}
    found = None
    if features.numeric:
        sides = _numeric_sides(records, features.numeric, rows, missing)
        ids = {side: rows.known.ids[rows.positions(side)] for side in SIDES}
        scaled, found = standardised(sides, ids, normalize)
        for side, columns in scaled.items():
            blocks[side].append(columns)
    categories = {name: _categories(records, name, rows, missing) for name in features.categorical}
    for name, known in categories.items():
        block = _one_hot(records.columns[name].text, known)
        for side in SIDES:
            blocks[side].append(block[torch.from_numpy(rows.positions(side))])
    inputs = {side: torch.cat(parts, dim=1) for side, parts in blocks.items()}
    return EncodedRows(inputs, found, value_digest([list(features.numeric), categories]))


def contents(records: ColumnTable, features: Features) -> np.ndarray:
    """SHA-256 over the inputs of each row as they were read.

    Equal rows have equal hashes; 1 and 1.0 are the same number.
    """
    numeric = [records.columns[name].numbers for name in features.numeric]
    values = [_without_negative_zeros(column) for column in numeric if column is not None]
    values += [records.columns[name].text for name in features.categorical]
    start = hashlib.sha256(
        "\x1f".join(("table", *features.numeric, "", *features.categorical)).encode()
    )
    digests = np.empty(len(records), dtype="U64")
    # With their lengths, so that no cell can run into the next.
    for n, row in enumerate(row_texts(values, CellForm(counted=True, between=""))):
        total = start.copy()
        total.update(row.encode())
        digests[n] = total.hexdigest()
    return digests


def _without_negative_zeros(column: np.ndarray) -> np.ndarray:
    """The numbers as float64, a copy only where they are not so already."""
    if column.dtype == np.float64 and not np.signbit(column[column == 0]).any():
        return column
    return column.astype(np.float64) + 0.0


def _first_word(records: ColumnTable, name: str) -> str:
    for row, cell in enumerate(records.columns[name].text):
        if text_column([cell]).numbers is None:
            shown = cell if len(cell) <= 20 else f"{cell[:20]}…"
            return f"{shown!r} in {records.unit} {records.places[row]}"
    return "numbers and other values"


def _numeric_sides(
    records: ColumnTable, names: Sequence[str], rows: Rows, missing: Missing
) -> dict[str, np.ndarray]:
    """The numbers of each side, float64 [N, D], filled column by column."""
    sides = {side: np.empty((len(rows.positions(side)), len(names))) for side in SIDES}
    for n, name in enumerate(names):
        column = _numbers(records, name, rows, missing)
        for side, table in sides.items():
            table[:, n] = column[rows.positions(side)]
    return sides


def _numbers(records: ColumnTable, name: str, rows: Rows, missing: Missing) -> np.ndarray:
    column = records.columns[name].numbers
    if column is None:
        raise EigenforgetError(f"column {name!r} holds words")
    values = column.astype(np.float64)
    if np.isinf(values).any():
        raise EigenforgetError(
            f"column {name!r} holds infinite numbers in {records.where(np.isinf(values))}"
        )
    gone = np.isnan(values)
    if not gone.any():
        return values
    _refuse(records, name, gone, missing)
    marks = records.columns[name].marks - {""}
    if marks:
        notices.warn(f"{_quoted(marks)} in column {name!r} stands for a missing number")
    present = values[rows.sides.train][~gone[rows.sides.train]]
    if not len(present):
        raise EigenforgetError(f"column {name!r} has no value in any training row: name it in drop")
    return np.where(gone, present.mean(), values)


def _categories(records: ColumnTable, name: str, rows: Rows, missing: Missing) -> list[str]:
    """The categories of the training rows, in sorted order."""
    text = records.columns[name].text
    gone = text == ""
    if gone.any():
        _refuse(records, name, gone, missing)
    categories = sorted(set(text[rows.sides.train]) - {""})
    marks = set(categories).intersection(ABSENT)
    if marks:
        notices.warn(
            f"{_quoted(marks)} in column {name!r} is treated as a category like any other word; "
            f"leave the cell empty if a value is missing"
        )
    if not categories:
        raise EigenforgetError(f"column {name!r} has no value in any training row: name it in drop")
    if len(categories) > _MOST_CATEGORIES:
        raise EigenforgetError(
            f"column {name!r} has {len(categories)} categories (at most {_MOST_CATEGORIES}): "
            "name it in drop"
        )
    return categories


def _quoted(words: Iterable[str]) -> str:
    return joined(sorted(map(repr, words)))


def _one_hot(text: np.ndarray, categories: list[str]) -> Tensor:
    where = {category: n for n, category in enumerate(categories)}
    block = torch.zeros(len(text), len(categories))
    found = [(row, where[cell]) for row, cell in enumerate(text) if cell in where]
    block[tuple(torch.tensor(found).T)] = 1.0
    return block


def _refuse(records: ColumnTable, name: str, gone: np.ndarray, missing: Missing) -> None:
    if missing == "error":
        raise EigenforgetError(
            f"column {name!r} has no value in {records.where(gone)}: give missing='mean', or "
            "drop the column"
        )
