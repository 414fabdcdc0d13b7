"""Datasets that are only iterated or mapped from disk, as datasets of fixed samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, IterableDataset

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.memory import check_fits
from eigenforget.data.sources.reading import undisturbed

_MOST = 1_000_000
"""Samples that are taken from a stream, which may have no end."""
_MAPPED = 1 << 28
"""Bytes of a mapped array from which it is read row by row; a smaller one is faster in memory."""


def is_stream(data: Any) -> bool:
    """Whether this is an IterableDataset, of torch or of Hugging Face."""
    streamed = type(data).__name__ == "IterableDataset" and hasattr(data, "__iter__")
    return isinstance(data, IterableDataset) or streamed


@dataclass(frozen=True, eq=False)
class SampleList(Dataset[Any]):
    """Samples of a stream in the order in which they came."""

    samples: Sequence[Any]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, n: int) -> Any:
        return self.samples[n]


def sample_list(stream: Any, what: str) -> SampleList:
    """The samples of a stream, read once and kept in memory, with a line that says so.

    Args:
        stream: What `is_stream` finds.
        what: The name of the data, for messages.

    Raises:
        EigenforgetError: It has no samples, does not end, or they do not fit into memory.
    """
    with undisturbed():
        samples = list(_bounded(iter(stream), what))
    if len(samples) > _MOST:
        raise EigenforgetError(
            f"the iterable dataset gives more than {_MOST:,} samples: give a map-style Dataset, "
            "such as a list of those that are meant"
        )
    if not samples:
        raise EigenforgetError(
            "the iterable dataset gives no sample; was it read to its end before?"
        )
    notices.warn(
        f"{what}: the iterable dataset was read once, and its {len(samples)} samples stay in "
        "memory as they came; a map-style Dataset is read as it is needed"
    )
    return SampleList(samples)


def _bounded(samples: Iterator[Any], what: str) -> Iterator[Any]:
    size = 0
    for sample in islice(samples, _MOST + 1):
        size += sum(getattr(leaf, "nbytes", 0) for leaf in tree_leaves(sample))
        check_fits(size, what)
        yield sample


def is_mapped(inputs: Any) -> TypeGuard[np.memmap[Any, Any]]:
    """Whether numpy maps these inputs from disk, and they are too many for a copy in memory."""
    return isinstance(inputs, np.memmap) and inputs.ndim > 0 and inputs.nbytes > _MAPPED


@dataclass(frozen=True, eq=False)
class MappedRows(Dataset[Any]):
    """Rows of an array that numpy maps from disk: only those that are asked for are read.

    A loader that collates with `whole` takes the rows of a batch at once. Floats become float32.

    Args:
        inputs: [N, …].
        targets: Labels [N].
    """

    inputs: np.memmap[Any, Any]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        return self._tensor(n), self.targets[n]

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """The batch of these rows."""
        return self._tensor(rows), self.targets[rows]

    def _tensor(self, rows: int | list[int]) -> Tensor:
        return torch.as_tensor(np.array(self.inputs[rows], dtype=plain_type(self.inputs.dtype)))


def plain_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What numbers become for PyTorch: floats float32, the others theirs in this byte order."""
    return np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")


def whole(batch: Any) -> Any:
    """What `__getitems__` gave, which is a batch already."""
    return batch
