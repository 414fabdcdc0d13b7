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
from eigenforget.core.text import counted, listed
from eigenforget.data.sources.kinds import DatasetSource, Source, TensorSource
from eigenforget.data.sources.reading import sampled, undisturbed

READ = 10_000
"""Samples that `overlap` reads of datasets that are not in memory, at most."""
_READ_TWICE = 32
"""Samples whose two readings are compared."""


def content_rows(source: Source) -> list[str]:
    """A digest of the inputs and the label of each sample, in order."""
    rows = []
    for batch in source.batches(1024):
        inputs = batch.inputs if isinstance(batch.inputs, Mapping) else {"": batch.inputs}
        if not all(isinstance(column, Tensor) for column in inputs.values()):
            raise EigenforgetError(
                "samples are compared by their tensors; these inputs are none: "
                f"{listed(type(column).__name__ for column in inputs.values())}"
            )
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
    one: Source,
    *,
    other: Source,
    rows: Callable[[Source], Sequence[str]] | None = None,
    at_any_cost: bool = False,
) -> int | None:
    """How many samples of `other` are in `one` too; None where that was not looked at.

    Parts of one dataset are compared by their positions in it, and all sources by the content of
    their inputs, whatever the labels. Without `rows`, sources that are not in memory are read only
    where both together have no more than READ samples, and only where each reading is the same.

    Args:
        one: Samples.
        other: Samples.
        rows: Gives the `content_rows` of a source where they are known.
        at_any_cost: Whether sources of any size are read.
    """
    mine, theirs = _place(one), _place(other)
    found = np.zeros(len(other), dtype=bool)
    of_one_dataset = mine is not None and theirs is not None and mine[0] is theirs[0]
    if mine is not None and theirs is not None and of_one_dataset:
        found |= np.isin(theirs[1], mine[1])
    if rows is None and not _are_comparable(one, other, at_any_cost=at_any_cost):
        return int(found.sum()) if of_one_dataset else None
    read = content_rows if rows is None else rows
    known = {inputs_of(row) for row in read(one)}
    found |= np.array([inputs_of(row) in known for row in read(other)], dtype=bool)
    return int(found.sum())


def reads_the_same(source: Source) -> bool:
    """Whether two readings of some samples give the same, as without random augmentation."""
    if isinstance(source, TensorSource):
        return True
    part = sampled(source, _READ_TWICE)
    with undisturbed():
        return content_rows(part) == content_rows(part)


def check_reading(source: Source, what: str) -> None:
    """Checks that what measures reads the same samples in each pass.

    Raises:
        EigenforgetError: It does not, and `Samples` does not allow it; the message names the cure.
    """
    allowed = isinstance(source, DatasetSource) and source.allow_random
    if not allowed and not reads_the_same(source):
        raise EigenforgetError(
            f"{what}: the dataset gives other samples each time it is read, as with random "
            "augmentation, so that two measurements would differ; give Samples(data, "
            "eval_transform=…) or Samples(data, clean=…), or say allow_random=True there"
        )


def _are_comparable(one: Source, other: Source, *, at_any_cost: bool) -> bool:
    if isinstance(one, TensorSource) and isinstance(other, TensorSource):
        return True
    few = len(one) + len(other) <= READ
    return (few or at_any_cost) and reads_the_same(one) and reads_the_same(other)


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
        found = counted(count, f"sample of the {what} is", f"samples of the {what} are")
        raise EigenforgetError(
            f"{found} also in the {of}; remove what is in both, or say allow_overlap=True"
        )


def inputs_of(row: str) -> str:
    """The part of a row of `content_rows` that is about the inputs."""
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
