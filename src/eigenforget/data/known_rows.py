"""Which rows a model was trained and tested on, as hashes; and what changed in the data since."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.row_texts import CellForm, row_texts
from eigenforget.core.text import joined
from eigenforget.core.types import Index
from eigenforget.data.bundle import Data
from eigenforget.data.rows import SIDES
from eigenforget.data.sources import DatasetSource, Inputs, TensorSource
from eigenforget.record import RecordError, canonical
from eigenforget.record.reading import read_json

_SCHEMA = "eigenforget.rows/1"
_BYTES = 8
_MOST_BYTES = 1 << 30
"""Of a file: some fifty million rows."""


class RowHashes(NamedTuple):
    """Hashes of some rows, uint64 [N] each.

    Attributes:
        rows: Of the content, the label, the group and the columns of each row.
        ids: Of its id.
    """

    rows: np.ndarray
    ids: np.ndarray

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The hashes of each row."""
        return zip(self.rows.tolist(), self.ids.tolist(), strict=True)


class DataChanges(NamedTuple):
    """How many rows differ between two states of a data set.

    Attributes:
        gone: Rows that are there no more.
        added: Rows that were not there.
        changed: Rows with the id of before and other values.
        moved: Rows that are as they were, on the other side of training and test rows.
        renamed: Rows that are as they were, with another id.
    """

    gone: int
    added: int
    changed: int
    moved: int
    renamed: int

    def words(self) -> str:
        """The numbers as in a sentence; "" where nothing differs."""
        said = {
            "gone": self.gone,
            "new": self.added,
            "changed": self.changed,
            "now on the other side of training and test rows": self.moved,
            "renamed": self.renamed,
        }
        counts = [
            f"{count} row{'s are' if count > 1 else ' is'} {what}"
            for what, count in said.items()
            if count
        ]
        return joined(counts)


@dataclass(frozen=True)
class KnownRows:
    """The rows of both sides as hashes, in the order of the hashes.

    Attributes:
        train: Of the training rows.
        test: Of the test rows.
        key: With which they were hashed, where that is known; b"" for none.
        keyed: Whether they were hashed with a key.
    """

    train: RowHashes
    test: RowHashes
    key: bytes = b""
    keyed: bool = False

    @classmethod
    def of(cls, data: Data, *, kept: np.ndarray | None = None, key: bytes = b"") -> KnownRows:
        """The rows of a data set.

        Args:
            data: The data set.
            kept: Positions of the training rows that count; None for all.
            key: A secret, so that a guessed row cannot be confirmed.
        """
        train, test = (_hashes(index, key) for index in (data.train_index, data.test_index))
        if kept is not None:
            train = RowHashes(train.rows[kept], train.ids[kept])
        return cls(_in_order(train), _in_order(test), key, bool(key))

    def text(self) -> str:
        """As it stands in a file: canonical JSON, with the hashes in base64."""
        sides = {
            side: {name: _encoded(column) for name, column in getattr(self, side)._asdict().items()}
            for side in SIDES
        }
        return canonical({"schema": _SCHEMA, "keyed": self.keyed, **sides}) + "\n"

    @classmethod
    def read(cls, path: Path, key: bytes = b"") -> KnownRows:
        """The rows in a file.

        Raises:
            EigenforgetError: It cannot be read or is none.
        """
        try:
            value, _ = read_json(path, _MOST_BYTES)
            if value["schema"] != _SCHEMA:
                raise ValueError
            train, test = (
                RowHashes(_decoded(value[side]["rows"]), _decoded(value[side]["ids"]))
                for side in SIDES
            )
            if any(len(side.rows) != len(side.ids) for side in (train, test)):
                raise ValueError
            keyed = bool(value["keyed"])
        except RecordError as error:
            raise EigenforgetError(str(error)) from None
        except (KeyError, TypeError, ValueError):
            raise EigenforgetError(f"{path}: not a file of row hashes, or damaged") from None
        return cls(train, test, key if keyed else b"", keyed)

    def changes(self, data: Data) -> DataChanges:
        """What is different in the data now."""
        now = KnownRows.of(data, key=self.key)
        then_rows, now_rows = (_counted(rows, ("row",)) for rows in (self, now))
        both = then_rows & now_rows
        named = (_counted(self, ("row", "id")) & _counted(now, ("row", "id"))).total()
        stayed = (_counted(self, ("row", "side")) & _counted(now, ("row", "side"))).total()
        lost, new = ((rows - both) for rows in (then_rows, now_rows))
        changed = (_ids_of(self, lost) & _ids_of(now, new)).total()
        return DataChanges(
            gone=lost.total() - changed,
            added=new.total() - changed,
            changed=changed,
            moved=both.total() - stayed,
            renamed=both.total() - named,
        )

    def divided(self, data: Data) -> Data:
        """The rows that were known, on the sides where they were; others are left out.

        Raises:
            EigenforgetError: No row of one side is left, or the sides cannot be joined.
        """
        now = [_hashes(index, self.key) for index in (data.train_index, data.test_index)]
        rows = [pair for side in now for pair in side.pairs()]
        sides = self._sides_of(rows)
        train, test = (np.flatnonzero(sides == side) for side in range(2))
        if not len(train) or not len(test):
            raise EigenforgetError("none of the rows that were known is left on one of the sides")
        source, index = _joined(data), _joined_index(data.train_index, data.test_index)
        return replace(
            data,
            train=source.subset(train),
            train_index=_index_rows(index, train),
            test=replace(source, augment=None).subset(test),
            test_index=_index_rows(index, test),
        )

    def _sides_of(self, rows: list[tuple[int, int]]) -> np.ndarray:
        """The side of each row (hash, id): 0, 1, or -1 where it was not known."""
        left = {0: Counter(self.train.pairs()), 1: Counter(self.test.pairs())}
        found = np.full(len(rows), -1)
        for n, pair in enumerate(rows):  # first those whose id fits too
            for side, pairs in left.items():
                if found[n] < 0 and pairs[pair] > 0:
                    found[n] = side
                    pairs[pair] -= 1
        by_row = {side: Counter[int]() for side in left}
        for side, pairs in left.items():
            for (row, _), count in pairs.items():
                by_row[side][row] += count
        for n in np.flatnonzero(found < 0).tolist():
            for side, counts in by_row.items():
                if found[n] < 0 and counts[rows[n][0]] > 0:
                    found[n] = side
                    counts[rows[n][0]] -= 1
        return found


def _hashes(index: Index, key: bytes) -> RowHashes:
    columns = [
        index.labels,
        index.groups,
        index.content if index.content is not None else index.ids,
    ]
    columns += [values for _, values in sorted(index.columns.items())]
    known = [np.asarray(column) for column in columns if column is not None]
    rows = row_texts(known, CellForm())
    return RowHashes(_hashed(rows, key), _hashed(map(str, index.ids), key))


def _hashed(texts: Iterator[str], key: bytes) -> np.ndarray:
    start = hashlib.blake2b(digest_size=_BYTES, key=key[: hashlib.blake2b.MAX_KEY_SIZE])
    found = bytearray()
    for text in texts:
        total = start.copy()
        total.update(text.encode("utf-8", "surrogatepass"))
        found += total.digest()
    return np.frombuffer(bytes(found), dtype="<u8")


def _in_order(side: RowHashes) -> RowHashes:
    order = np.lexsort((side.ids, side.rows))
    return RowHashes(side.rows[order], side.ids[order])


def _encoded(column: np.ndarray) -> str:
    return base64.b64encode(column.astype("<u8").tobytes()).decode("ascii")


def _decoded(text: str) -> np.ndarray:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<u8")
    except binascii.Error:
        raise ValueError from None


def _counted(known: KnownRows, what: tuple[str, ...]) -> Counter[Any]:
    """How often each row occurs, told apart by its hash and by what else is named."""
    found: Counter[Any] = Counter()
    for number, side in enumerate((known.train, known.test)):
        for row, name in side.pairs():
            told = {"row": row, "id": name, "side": number}
            found[tuple(told[part] for part in what)] += 1
    return found


def _ids_of(known: KnownRows, rows: Mapping[Any, int]) -> Counter[int]:
    """The ids of these rows."""
    return Counter(
        name for side in (known.train, known.test) for row, name in side.pairs() if (row,) in rows
    )


def _joined(data: Data) -> TensorSource | DatasetSource:
    """The training rows, then the test rows."""
    train, test = data.train, data.test
    if isinstance(train, TensorSource) and isinstance(test, TensorSource):
        inputs = _concatenated(train.inputs, test.inputs)
        return replace(train, inputs=inputs, targets=torch.cat([train.targets, test.targets]))
    if isinstance(train, DatasetSource) and isinstance(test, DatasetSource):
        return replace(train, dataset=ConcatDataset([train.dataset, test.dataset]))
    raise EigenforgetError(
        "training and test rows of different kinds cannot be joined and divided again"
    )


def _concatenated(train: Inputs, test: Inputs) -> Inputs:
    if isinstance(train, Mapping) and isinstance(test, Mapping):
        return {name: torch.cat([column, test[name]]) for name, column in train.items()}
    return torch.cat([train, test])  # type: ignore[list-item]  # both are tensors then


def _joined_index(train: Index, test: Index) -> Index:
    def both(one: Any, other: Any) -> Any:
        return None if one is None or other is None else np.concatenate([one, other])

    return Index(
        np.concatenate([train.ids, test.ids]),
        np.concatenate([train.labels, test.labels]),
        both(train.groups, test.groups),
        both(train.content, test.content),
        {name: both(values, test.columns.get(name)) for name, values in train.columns.items()},
    )


def _index_rows(index: Index, rows: np.ndarray) -> Index:
    groups, content = (
        None if column is None else column[rows] for column in (index.groups, index.content)
    )
    columns = {name: values[rows] for name, values in index.columns.items()}
    return Index(index.ids[rows], index.labels[rows], groups, content, columns)
