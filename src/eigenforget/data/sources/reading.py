"""Looks at a few real samples, which leave no trace in the state of any random generator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from eigenforget.core.types import Batch
from eigenforget.data.sources.kinds import DatasetSource, Source


@contextmanager
def undisturbed(seed: int | None = None) -> Iterator[None]:
    """The global random states of torch, numpy and Python are afterwards as before.

    Args:
        seed: What all three start from in between; None lets them go on from where they are.
    """
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
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
