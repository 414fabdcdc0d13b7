"""Which samples a DataLoader stands for."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeGuard

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources.reading import undisturbed

_CURE = "give the dataset or a Subset of it to choose them"


def is_loader(data: Any) -> TypeGuard[DataLoader[Any]]:
    """Whether this is a DataLoader, or one in the wrapping of another library, such as Fabric's."""
    parts = ("dataset", "sampler", "batch_sampler", "collate_fn", "num_workers")
    return isinstance(data, DataLoader) or all(hasattr(data, name) for name in parts)


def selection(loader: DataLoader[Any], what: str) -> np.ndarray | None:
    """The samples that a loader's sampler or batch sampler selects; None for all of them.

    It is the same in each call. A sampler that draws with replacement weighs samples and selects
    none: all those of a weight above 0 are taken, with a warning. A sampler for one process of
    several stands for the whole dataset, also with a warning, since the engine shares the work.

    Args:
        loader: The loader.
        what: The name of the data, for messages.

    Raises:
        EigenforgetError: The dataset gives whole batches, or the sampler gives no positions or
            never ends.
    """
    if loader.batch_size is None and loader.batch_sampler is None:
        raise EigenforgetError(
            "a loader with batch_size=None has a dataset of whole batches; give a dataset of single"
            " samples"
        )
    total, batch_size = len(loader.dataset), loader.batch_size  # type: ignore[arg-type]
    sampler: Any = loader.sampler if batch_size is not None else loader.batch_sampler
    drops = loader.drop_last
    if type(sampler) is BatchSampler:
        drops, batch_size, sampler = sampler.drop_last, sampler.batch_size, sampler.sampler
    if drops and batch_size and total % batch_size:
        notices.inform(
            f"{what}: drop_last of the loader is for its own batches: no sample is left out"
        )
    if getattr(sampler, "replacement", False):
        return _weighted(sampler, total, what)
    if isinstance(sampler, DistributedSampler):
        if sampler.num_replicas > 1:
            notices.warn(
                f"{what}: the loader's {type(sampler).__name__} gives one of "
                f"{sampler.num_replicas} processes its share: all {total} samples are taken, as "
                f"the engine shares the work itself; {_CURE}"
            )
        return None
    if isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and sampler.num_samples >= total
    ):
        return None
    return _drawn(sampler, total, what)


def _weighted(sampler: Any, total: int, what: str) -> np.ndarray:
    weights = getattr(sampler, "weights", None)
    rows = np.arange(total) if weights is None else np.flatnonzero(np.asarray(weights) > 0)
    notices.warn(
        f"{what}: the loader's {type(sampler).__name__} draws with replacement, which does not "
        f"say which samples are meant: {len(rows)} of {total} are taken, each once; {_CURE}"
    )
    return rows


def _drawn(sampler: Any, total: int, what: str) -> np.ndarray | None:
    """The samples of one pass of a sampler of any kind, with a warning where passes differ."""
    generators = [
        found
        for owner in (sampler, getattr(sampler, "sampler", None))
        if isinstance(found := getattr(owner, "generator", None), torch.Generator)
    ]
    states = [generator.get_state() for generator in generators]
    try:
        # A second pass from another seed tells a selection from a draw.
        first, second = (_pass(sampler, total, seed) for seed in (0, 1))
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
    rows = np.unique(first)
    name = type(sampler).__name__
    if not np.array_equal(rows, np.unique(second)):
        notices.warn(
            f"{what}: the loader's {name} draws other samples in each pass: the {len(rows)} of "
            f"{total} of one pass are taken, in each call the same; {_CURE}"
        )
    elif len(rows) < len(first):
        notices.warn(
            f"{what}: the loader gives {len(first)} samples, of which {len(rows)} differ: these "
            f"{len(rows)} of {total} are taken, each once"
        )
    elif len(rows) < total:
        notices.inform(f"{what}: the loader's {name} takes {len(rows)} of {total} samples; {_CURE}")
    return None if len(rows) == total else rows


def _pass(sampler: Iterable[Any], total: int, seed: int) -> np.ndarray:
    """The positions of one pass over a sampler or batch sampler, flat."""
    limit, rows = 20 * total + 1000, list[Any]()
    with undisturbed(seed):
        for item in islice(sampler, limit):
            rows.extend(item if isinstance(item, (list, tuple)) else [item])
            if len(rows) >= limit:
                break
    if len(rows) >= limit:
        raise EigenforgetError(
            f"the loader's {type(sampler).__name__} gives {limit} positions and more for {total} "
            f"samples; {_CURE}"
        )
    try:
        found = np.asarray([int(row) for row in rows], dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        found = np.array([-1])
    if not len(found) or found.min() < 0 or found.max() >= total:
        raise EigenforgetError(
            f"the loader's {type(sampler).__name__} gives no positions from 0 to {total - 1}; "
            f"{_CURE}"
        )
    return found
