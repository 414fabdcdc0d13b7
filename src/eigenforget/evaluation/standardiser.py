"""One unit for the features of all models: what undoes a scale, a shift or a rotation of them.

The head can undo each of these, so the model answers as before, and no score may change.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from eigenforget.evaluation.metrics.similarity import is_constant


class Standardiser(NamedTuple):
    """Centres features and divides all of them by one number.

    A scale for each dimension would undo more, but then a rotation would change scores.

    Attributes:
        mean: Mean [D] of the retain features.
        inverse: One over the root mean square of their centred entries; 0 where they are constant.
    """

    mean: np.ndarray
    inverse: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The features [N, D] in float64, in this unit."""
        return np.asarray((features.astype(np.float64) - self.mean) * self.inverse)


def standardiser(retain: np.ndarray) -> Standardiser:
    """The unit that the retain features [N, D] of a model give; N ≥ 1."""
    rows = retain.astype(np.float64)
    mean = rows.mean(axis=0)
    energy = float(np.square(rows - mean).sum())
    if is_constant(samples=len(rows), energy=energy, mean=torch.from_numpy(mean)):
        return Standardiser(mean, 0.0)
    return Standardiser(mean, 1.0 / math.sqrt(energy / rows.size))
