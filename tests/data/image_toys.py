"""Toys that several tests of this folder share."""

from __future__ import annotations

import numpy as np


def arrays(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).normal(size=(n, 3)), np.arange(n) % 2
