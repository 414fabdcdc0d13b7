"""A look at some samples leaves no trace."""

from __future__ import annotations

import random

import numpy as np
import torch

from eigenforget.data.sources import DatasetSource
from eigenforget.data.sources.reading import one_batch, spread_rows, undisturbed
from tests.data.sources.toys import Points, points


def test_random_states_are_as_before() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    with undisturbed(1):
        want = draws()
    with undisturbed():
        expected = draws()
    with undisturbed(1):
        assert draws() == want
    assert draws() == expected


def test_samples_are_spread_and_read_in_this_process() -> None:
    source = DatasetSource(Points(points()), workers=2)
    assert spread_rows(source, 3).tolist() == [0, 11, 22]
    assert spread_rows(source, 99).tolist() == list(range(23))
    batch = one_batch(source, 3)
    assert torch.equal(batch.inputs, points().inputs[[0, 11, 22]])  # type: ignore[index]
    assert source.dataset.reads == 3  # type: ignore[attr-defined]
