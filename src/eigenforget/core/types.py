"""Frozen values that everyone exchanges: samples, splits, outputs and scores.

Shapes use N samples, D features, C classes, B batch size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.row_texts import CellForm, row_texts
from eigenforget.core.text import listed

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Batch",
    "Better",
    "Index",
    "Outputs",
    "Part",
    "Score",
    "Split",
    "Trace",
    "digest_of_rows",
]

Part = Literal["forget", "retain", "test_forget", "test_retain", "test_trigger"]
"""A set of samples that is measured.

"forget" and "retain" are the two sides of the training data. "test_forget" and "test_retain" are
test samples of forgotten and of other classes; when no class is forgotten as a whole there
is no "test_forget", and "test_retain" is the test set. "test_trigger" are test samples with a
planted trigger and the attacker's label, where a backdoor is measured."""

Better = Literal["higher", "lower", "reference"]

Trace = Literal["above", "below", "both", ""]
"""On which side of the retrained models' values a trace of the forget set shows.

A linear probe above them still finds the class; an alignment below them does. "both" is for a
distance, which says that something differs and not in which sense; "" for utility and cost."""


class Batch(NamedTuple):
    """Some samples of a source.

    Args:
        inputs: [B, ...], one tensor or several by name.
        labels: [B], int64.
        positions: Their rows in the source, [B], int64.
    """

    inputs: Any
    labels: Tensor
    positions: Tensor


class Outputs(NamedTuple):
    """What a model gives for a batch.

    Args:
        logits: [B, C].
        features: [B, D], the input of the classifier head or the layer that was asked for.
        layers: Features [B, D_l] of further layers by name, where they were asked for.
    """

    logits: Tensor
    features: Tensor
    layers: Mapping[str, Tensor] = {}

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Outputs:
        """The same after a function of each tensor."""
        layers = {name: function(features) for name, features in self.layers.items()}
        return Outputs(function(self.logits), function(self.features), layers)


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of each sample besides its tensor.

    Args:
        ids: Unique ids [N].
        labels: Labels [N].
        groups: Groups [N], such as persons, or None.
        content: Content hashes [N], or None.
        columns: Further columns [N] of integers, floats, strings or bools by name, such as a finer
            label, an age or a date.
        class_names: One name for each class, where classes have names.

    Raises:
        EigenforgetError: Ids repeat, or a column has another length or type, or the name of one of
            those above.
    """

    ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    content: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name in ("labels", "groups", "content"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise EigenforgetError(f"index column {name} has {len(column)} rows, ids have {n}")
        if len(set(np.asarray(self.ids).tolist())) != n:  # a set is faster than sorted texts
            unique, counts = np.unique(self.ids, return_counts=True)
            raise EigenforgetError(
                f"sample ids must be unique; repeated: {listed(unique[counts > 1])}"
            )
        # A copy, so that the caller's mapping cannot change under the digest.
        object.__setattr__(
            self,
            "columns",
            {name: _column(name, values, n) for name, values in self.columns.items()},
        )

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> np.ndarray:
        """The column [N] of this name: "id", "label", "group" or one of `columns`.

        Raises:
            EigenforgetError: There is none; the message lists the names.
        """
        own = {"id": self.ids, "label": self.labels, "group": self.groups}
        known = {key: values for key, values in own.items() if values is not None} | dict(
            self.columns
        )
        if name not in known:
            raise EigenforgetError(
                f"the data has no column {name!r}; its columns: {listed(known, 20)}"
            )
        return _one_type(np.asarray(known[name]))

    def by_id(self, rows: np.ndarray) -> np.ndarray:
        """These rows [n] in the order of their ids, so that a draw of them ignores their own."""
        return rows[np.argsort(self.ids[rows], kind="stable")]

    def drawn(self, rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        """This many of the rows [n], drawn by their ids: the order of the rows is no matter."""
        return self.by_id(rows)[generator.permutation(len(rows))[:count]]

    def digest(self) -> str:
        """SHA-256 over the sorted rows; the order of samples and columns does not matter."""
        columns = [c for c in (self.ids, self.labels, self.groups, self.content) if c is not None]
        named = sorted(self.columns.items())
        before = [""] * len(columns) + [f"{name}:{c.dtype.kind}=" for name, c in named]
        form = CellForm(before, spelled=format)
        columns += [column for _, column in named]
        ids = [str(name) for name in self.ids]
        if any("\x1f" in name for name in ids):
            return digest_of_rows(row_texts(columns, form))
        # The order of the rows is that of their ids, with what follows them.
        order = sorted(range(len(ids)), key=[f"{name}\x1f" for name in ids].__getitem__)
        return _digest(row_texts(columns, form, np.array(order, dtype=np.int64)))


class Split(NamedTuple):
    """The two sides of the training data.

    Args:
        forget: Positions of the forget set.
        retain: Positions of the retain set.
        forgotten_classes: Classes of which every sample is forgotten.
        digest: Over the ids of both sides, whatever their order.
    """

    forget: np.ndarray
    retain: np.ndarray
    forgotten_classes: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class Score:
    """One measured number, or the reason why there is none.

    Args:
        name: Name of the score.
        value: The number; None exactly when the score does not apply.
        unit: Of the value.
        better: "reference" means closest to the retrained model.
        range: Smallest and largest possible value.
        low: Lower end of a 95 % interval, where the metric has one.
        high: Its upper end.
        reason: Why there is no value.
        trace: On which side of the retrained models traces of the forget set show.
        about: Label, group and meaning for the report's glossary, for scores that are not of this
            package.
    """

    name: str
    value: float | None
    unit: str
    better: Better
    range: tuple[float, float]
    low: float | None = None
    high: float | None = None
    reason: str = ""
    trace: Trace = ""
    about: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise EigenforgetError(f"score {self.name} has no value and no reason")
        if self.value is not None and not np.isfinite(self.value):
            raise EigenforgetError(
                f"score {self.name} is {self.value}; a score is a finite number or not applicable"
            )

    @property
    def status(self) -> Literal["ok", "not_applicable"]:
        """Whether there is a value: "ok" or "not_applicable"."""
        return "ok" if self.value is not None else "not_applicable"


def _column(name: str, values: Any, n: int) -> np.ndarray:
    """One further column of an Index, checked."""
    if name in ("id", "label", "group", "content"):
        raise EigenforgetError(
            f"a further index column cannot be named {name!r}: every index has one of that name"
        )
    column = _one_type(np.asarray(values))
    if column.shape != (n,):
        raise EigenforgetError(
            f"index column {name} must be one value for each of the {n} ids, got "
            f"{list(column.shape)}"
        )
    if column.dtype.kind not in "iufUb":
        raise EigenforgetError(
            f"index column {name} must hold integers, floats, strings or bools, got "
            f"{column.dtype} (write dates as 2024-05-31)"
        )
    return column


def _one_type(column: np.ndarray) -> np.ndarray:
    """Python strings as a string column; any other column as it is."""
    return (
        column.astype(np.str_)
        if column.dtype.kind == "O" and all(isinstance(v, str) for v in column)
        else column
    )


def digest_of_rows(rows: Any) -> str:
    """The digest "sha256:…" of the rows in sorted order."""
    return _digest(sorted(rows))


def _digest(rows: Iterable[str]) -> str:
    total = hashlib.sha256()
    for row in rows:
        total.update(row.encode())
        total.update(b"\n")
    return f"sha256:{total.hexdigest()}"
