"""Toys for tests of data sets."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.data import Data


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def features(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 3, (n, d))


def refusal(call) -> str:
    """The one line of the refusal."""
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sides(data: Data) -> dict:
    return {"train": data.train_index, "test": data.test_index}
