"""What samples contain: digests of them, and how many two sources share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources.kinds import DatasetSource, Source, TensorSource

READ = 10_000
"""Samples that `overlap` reads of datasets that are not in memory, at most."""


def content_rows(source: Source) -> list[str]:
    """A digest of the inputs and the label of each sample, in order."""
    rows = []
    for batch in source.batches(1024):
        inputs = batch.inputs if isinstance(batch.inputs, Mapping) else {"": batch.inputs}
        columns = {name: _as_array(column) for name, column in inputs.items()}
        for row, label in enumerate(batch.labels.tolist()):
            total = hashlib.sha256()
            for name, column in columns.items():
                total.update(f"{name}{column.dtype}{list(column.shape[1:])}".encode())
                total.update(np.ascontiguousarray(column[row]).data)
            rows.append(f"{total.hexdigest()}\x1f{label}")
    return rows


def _as_array(column: Tensor) -> np.ndarray:
    """The column as numbers that numpy knows; it has no bfloat16."""
    column = column.detach().cpu()
    return (column.float() if column.dtype is torch.bfloat16 else column).numpy()


def overlap(
    one: Source, other: Source, *, rows: Callable[[Source], Sequence[str]] | None = None
) -> int:
    """How many samples of `other` are in `one` too.

    Parts of one dataset are compared by their positions in it. Other sources are compared by the
    content of their inputs, whatever the labels. Without `rows`, sources that are not in memory are
    read only where both together have no more than READ samples; 0 is the answer otherwise.

    Args:
        one: Samples.
        other: Samples.
        rows: Gives the `content_rows` of a source where they are known.
    """
    mine, theirs = _place(one), _place(other)
    if mine is not None and theirs is not None and mine[0] is theirs[0]:
        return int(np.isin(theirs[1], mine[1]).sum())
    in_memory = isinstance(one, TensorSource) and isinstance(other, TensorSource)
    if rows is None and not in_memory and len(one) + len(other) > READ:
        return 0
    read = content_rows if rows is None else rows
    known = {_inputs_of(row) for row in read(one)}
    return sum(_inputs_of(row) in known for row in read(other))


def check_overlap(what: str, *, of: str, count: int) -> None:
    """Checks that no sample of one set is in another one.

    Args:
        what: The set that is to have none of the samples.
        of: The set whose samples they are.
        count: How many they are, see `overlap`.

    Raises:
        EigenforgetError: There are some; the message says how many.
    """
    if count:
        raise EigenforgetError(
            f"{count} samples of the {what} are samples of the {of} too; take them out, or say "
            "allow_overlap=True"
        )


def _inputs_of(row: str) -> str:
    return row.partition("\x1f")[0]


def _place(source: Source) -> tuple[Any, np.ndarray] | None:
    """The dataset of which a source is a part, and the positions in it; None where it has none."""
    if not isinstance(source, DatasetSource):
        return None
    dataset: Any = source.dataset
    rows = np.arange(len(source))
    while isinstance(dataset, Subset):
        rows = np.asarray(dataset.indices, dtype=np.int64)[rows]
        dataset = dataset.dataset
    return dataset, rows
