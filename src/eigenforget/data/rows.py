"""What a table says of each row besides the inputs: class, id, group, side, Index columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.data.bundle import Data, check_range, class_labels, data_of, index_of
from eigenforget.data.columns import ColumnTable, DataColumn
from eigenforget.data.holdout import Holdout, stratified
from eigenforget.data.sources import TensorSource

SIDES = ("train", "test")
_OWN = ("id", "label", "group", "content")
"""Columns that every Index has."""
_LONGEST = 1000
"""Characters in a cell of the Index, whose string columns are as wide as their longest cell."""


class Roles(NamedTuple):
    """Names of the columns that are no inputs; "" for none.

    Args:
        label: Column with the class.
        id: Column with unique ids.
        group: Column with groups.
        split: Column with "train" or "test" in each row.
        drop: Columns that are not used.
    """

    label: str
    id: str = ""
    group: str = ""
    split: str = ""
    drop: tuple[str, ...] = ()

    def named(self) -> tuple[str, ...]:
        """All that are named."""
        given = (self.label, self.id, self.group, self.split, *self.drop)
        return tuple(name for name in given if name)


class HoldoutShare(NamedTuple):
    """A stratified, seeded share for testing."""

    test_fraction: float
    seed: int


class RowFacts(NamedTuple):
    """The ids, groups and further columns of some rows, as index_of takes them."""

    ids: np.ndarray
    groups: np.ndarray | None
    columns: Mapping[str, np.ndarray]

    def rows(self, positions: np.ndarray) -> RowFacts:
        """The same for the rows at these positions."""
        groups = None if self.groups is None else self.groups[positions]
        return RowFacts(
            self.ids[positions],
            groups,
            {name: values[positions] for name, values in self.columns.items()},
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of the rows of a table.

    Args:
        labels: int64 [N].
        class_names: Names of the classes.
        known: What else is known, [N].
        sides: Which rows are for training and which for testing.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    known: RowFacts
    sides: Holdout

    def positions(self, side: str) -> np.ndarray:
        """The rows of one side, ascending."""
        return self.sides.train if side == "train" else self.sides.test

    def index(self, side: str, content: np.ndarray) -> Index:
        """The Index of one side; content [N] of all rows."""
        rows = self.positions(side)
        return index_of(self.known.rows(rows), self.labels[rows], content[rows], side)

    def data(self, inputs: Mapping[str, Any], content: np.ndarray, **known: Any) -> Data:
        """The Data of these inputs by side; content [N] of all rows.

        What else is known: vocabulary, normalisation and encoding, as Data has them.
        """
        labels = {side: torch.from_numpy(self.labels[self.positions(side)]) for side in SIDES}
        sources = {side: TensorSource(inputs[side], labels[side]) for side in SIDES}
        index = {side: self.index(side, content) for side in SIDES}
        return data_of(sources, index, self.class_names, **known)


def rows_of(
    records: ColumnTable,
    roles: Roles,
    division: HoldoutShare | Holdout,
    *,
    class_names: tuple[str, ...] | None = None,
    besides: tuple[str, ...] = (),
) -> Rows:
    """What a table says of its rows: labels, ids, groups, sides and Index columns.

    Without an id column the ids are "row/<row>". The sides are those of the split column, else of
    the division. Labels are integers, used as they are (with `class_names` where they have some),
    or names, numbered in their sorted order.

    Args:
        records: The table.
        roles: Which column is what.
        division: How to divide the rows where no column does.
        class_names: Names of the classes.
        besides: Columns that do not go into the Index; all others that are not dropped do.

    Raises:
        EigenforgetError: A column is unknown or takes the name of an Index column, labels are
            missing or fractional, ids are missing or repeated, groups are missing, the split column
            has other words, or a class has no training rows.
    """
    label = records.column(roles.label, "label")
    numbers, names = _coded(label, records, roles.label)
    if roles.id:
        ids = _complete(records, roles.id, "id")
        _check_unique(ids, records, roles.id)
    else:
        ids = np.array([f"row/{row}" for row in range(len(records))])
    groups = _complete(records, roles.group, "group") if roles.group else None
    known = RowFacts(ids, groups, _columns(records, roles, besides))
    if roles.split:
        sides = _sides(records, roles.split)
    else:
        # By their names where they have some, which is the same division, so that an error names
        # them.
        classes = numbers if names is None else label.text.astype(np.str_)
        sides = (
            stratified(classes, **division._asdict())
            if isinstance(division, HoldoutShare)
            else division
        )
    if names is None and class_names is not None:
        check_range(numbers, "given", len(class_names))
        return Rows(numbers, class_names, known, sides)
    return Rows(numbers, _class_names(numbers, names, sides), known, sides)


def _coded(
    column: DataColumn, records: ColumnTable, name: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(class numbers [N], class names or None where the file has the numbers)."""
    gone = column.missing()
    if gone.any():
        raise EigenforgetError(f"column {name!r} (label) has no value in {records.where(gone)}")
    numbers = column.numbers
    if numbers is not None and numbers.dtype.kind == "f":
        broken = numbers != np.floor(numbers)
        if broken.any() or np.isinf(numbers).any():
            raise EigenforgetError(
                f"column {name!r} holds {listed(np.unique(numbers[broken])) or 'inf'}: labels "
                "are integers or names of classes"
            )
        return class_labels(numbers.astype(np.int64), "given"), None
    if numbers is not None and numbers.dtype.kind == "i":
        return class_labels(numbers, "given"), None
    names, codes = np.unique(column.text.astype(np.str_), return_inverse=True)
    return codes.astype(np.int64), tuple(map(str, names))


def _class_names(
    labels: np.ndarray, names: tuple[str, ...] | None, sides: Holdout
) -> tuple[str, ...]:
    trained = np.unique(labels[sides.train])
    if names is None:
        names = tuple(map(str, range(int(trained.max()) + 1)))
        check_range(labels[sides.test], "test", len(names))
        return names
    missing = np.setdiff1d(np.arange(len(names)), trained)
    if len(missing):
        raise EigenforgetError(f"no training row is of class {listed(names[c] for c in missing)}")
    return names


def _complete(records: ColumnTable, name: str, role: str) -> np.ndarray:
    column = records.column(name, role)
    gone = column.text == ""
    if gone.any():
        raise EigenforgetError(f"column {name!r} ({role}) has no value in {records.where(gone)}")
    return column.text.astype(np.str_)


def _check_unique(ids: np.ndarray, records: ColumnTable, name: str) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        example = unique[counts > 1][0]
        raise EigenforgetError(
            f"column {name!r}: ids must be unique; repeated: {listed(unique[counts > 1])} "
            f"({example} in {records.where(ids == example)})"
        )


def _sides(records: ColumnTable, name: str) -> Holdout:
    side = records.column(name, "split").text
    strange = [f"{word!r}" for word in sorted(set(side) - set(SIDES))]
    if strange:
        raise EigenforgetError(
            f"column {name!r} (split) must hold train or test in each row, got {listed(strange)}"
        )
    train, test = (np.flatnonzero(side == word) for word in SIDES)
    if not len(train) or not len(test):
        raise EigenforgetError(
            f"column {name!r} (split) has no {'test' if len(train) else 'train'} rows"
        )
    return Holdout(train, test)


def _columns(records: ColumnTable, roles: Roles, besides: tuple[str, ...]) -> dict[str, np.ndarray]:
    for name in roles.drop:
        records.column(name, "drop")
    own = {"id": roles.id, "label": roles.label, "group": roles.group, "content": ""}
    found: dict[str, Any] = {}
    for name, column in records.columns.items():
        if name in roles.drop or name in besides or (name in _OWN and own[name] == name):
            continue
        if name in _OWN:
            means = "" if name == "content" else f"give {name}={name!r}, or "
            raise EigenforgetError(
                f"column {name!r} has the name of a column of the index: {means}drop or rename it"
            )
        longest = max(map(len, column.text)) if column.numbers is None else 0
        if longest > _LONGEST:
            raise EigenforgetError(
                f"column {name!r} holds words of up to {longest} characters (at most "
                f"{_LONGEST}): name it in drop"
            )
        found[name] = column.known()
    return found
