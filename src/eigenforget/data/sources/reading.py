"""Looks at a few real samples, which leave no trace in the state of any random generator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from eigenforget.core import seeds
from eigenforget.core.types import Batch
from eigenforget.data.sources.kinds import DatasetSource, Source, TensorSource

_ROWS = 8192
"""Rows that are looked at at once."""


@contextmanager
def undisturbed(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """The global random states of torch, numpy and Python are afterwards as before.

    Args:
        seed: What all three start from in between; None lets them go on from where they are.
        device: An accelerator whose random state counts as well.
    """
    states = random.getstate(), np.random.get_state()
    try:
        with seeds.torch_state_kept(device):
            if seed is not None:
                seeds.seed_torch(seed, device)
                np.random.seed(seed)
                random.seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def spread_rows(source: Source, count: int) -> np.ndarray:
    """Up to `count` positions, evenly over a source."""
    return np.unique(np.linspace(0, len(source) - 1, count).astype(np.int64))


def sampled(source: Source, count: int) -> Source:
    """Up to `count` samples, evenly over the source, that this process reads itself."""
    part = source.subset(spread_rows(source, count))
    return replace(part, workers=0) if isinstance(part, DatasetSource) else part


def one_batch(source: Source, count: int) -> Batch:
    """Up to `count` samples as a plain pass gives them, evenly over the source."""
    with undisturbed():
        return next(sampled(source, count).batches(count))


def not_finite(source: Source, count: int) -> np.ndarray:
    """Positions of samples whose inputs hold NaN or infinite values.

    Args:
        source: The samples. All are looked at if they are tensors in memory.
        count: How many others are looked at, evenly over the source.
    """
    if isinstance(source, TensorSource):
        return _rows_not_finite(source.inputs, len(source))
    rows = spread_rows(source, count)
    bad = _rows_not_finite(one_batch(source, count).inputs, len(rows))
    return np.take(rows, bad)


def _rows_not_finite(inputs: Any, count: int) -> np.ndarray:
    bad = torch.zeros(count, dtype=torch.bool)
    for tensor in tree_leaves(inputs):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or not tensor.numel():
            continue
        for first in range(0, count, _ROWS):
            rows = tensor[first : first + _ROWS]
            bad[first : first + _ROWS] |= ~rows.isfinite().reshape(len(rows), -1).all(1).cpu()
    return np.flatnonzero(bad.numpy())
