"""Numbers about where features lie: spread over directions, shares in a subspace, angles,
distances, similarity. All in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import subspace_angles
from scipy.spatial.distance import cdist, pdist
from sklearn.neighbors import NearestNeighbors

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Part
from eigenforget.evaluation.metrics.similarity import (
    MIN_PAIRED_SAMPLES,
    Cross,
    is_constant,
    linear_cka,
)

NEIGHBOURS = 5
"""Retained samples whose mean distance says how far a sample lies from the retained features; one
would follow single outliers.
"""


class Ranks(NamedTuple):
    """Effective numbers of directions: 1 where all energy lies in one direction, R where it is even
    over R.
    """

    participation: float
    entropy: float


class Projection(NamedTuple):
    """centre [D], axes [D, 2] and the share of the variance that each axis holds."""

    centre: np.ndarray
    axes: np.ndarray
    explained: np.ndarray

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Coordinates [N, 2] of feature rows [N, D]."""
        places: np.ndarray = (rows - self.centre) @ self.axes
        return places


def effective_ranks(values: np.ndarray) -> Ranks:
    """Of eigenvalues λ [R] > 0 with shares p = λ / Σλ: participation ratio 1 / Σp², and exp(−Σ p ln
    p). No unit, range [1, R].

    The entropy form is the effective rank of Roy and Vetterli (EUSIPCO 2007), here of the
    eigenvalues of the Gram matrix, not of the singular values of the features, so that both forms
    speak of energy; entropy ≥ participation.
    """
    shares = values / values.sum()
    shares = shares[shares > 0]
    return Ranks(
        float(1 / np.square(shares).sum()), float(np.exp(-(shares * np.log(shares)).sum()))
    )


def energy_shares(rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """‖Uᵀf‖² / ‖f‖² in [0, 1] of each feature row f [N, D], U [D, k] orthonormal; rows that are all
    zero have none and are left out.

    It is the energy form of alignment for one sample: 1 where the sample lies in the span of U, 0
    where it is orthogonal to it.
    """
    scale = np.abs(rows).max(axis=1, initial=0.0)
    kept = rows[scale > 0] / scale[scale > 0, None]
    return np.clip(np.square(kept @ basis).sum(axis=1) / np.square(kept).sum(axis=1), 0.0, 1.0)


def principal_angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles in degrees, ascending, in [0, 90], between the spans of orthonormal columns a [D, p]
    and b [D, q]; min(p, q) of them.

    The first is the smallest angle between a direction of the one and of the other (Björck and
    Golub 1973, scipy.linalg.subspace_angles).
    """
    degrees: np.ndarray = np.degrees(np.sort(subspace_angles(a, b)))
    return degrees


def neighbour_distances(rows: Mapping[Part, np.ndarray]) -> dict[Part, np.ndarray] | str:
    """Mean Euclidean distance of each sample to its NEIGHBOURS nearest retained training samples,
    over the median of this distance for held-out retained samples (part test_retain): 1 is as near
    as retained data that was not trained on. In [0, ∞).

    A retained training sample is no neighbour of itself. rows: features [N, D] by part, retain and
    test_retain among them. A text where it is not defined: too few samples, or held-out samples
    that coincide with retained ones.
    """
    for part, least in (("retain", NEIGHBOURS + 1), ("test_retain", 1)):
        if len(rows[part]) < least:  # type: ignore[index]
            return f"distances to neighbours need {least} samples of part {part}, got {len(rows[part])}"  # type: ignore[index]
    # Centred, since the brute-force distance is of squares: a large common mean would cost digits.
    centre = rows["retain"].mean(axis=0)
    index = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(rows["retain"] - centre)
    # Without an argument scikit-learn leaves each sample out of its own neighbours.
    asked = {
        part: index.kneighbors() if part == "retain" else index.kneighbors(r - centre)
        for part, r in rows.items()
        if len(r)
    }
    distances = {part: found[0].mean(axis=1) for part, found in asked.items()}
    unit = float(np.median(distances["test_retain"]))
    if unit <= _rounding(rows["retain"]):
        return "held-out retained samples coincide with retained training samples, so there is no distance to compare with"
    return {part: found / unit for part, found in distances.items()}


def class_mean_distances(
    rows: Mapping[Part, np.ndarray], *, retain: np.ndarray, labels: np.ndarray
) -> dict[Part, np.ndarray] | str:
    """Distance of each sample to the nearest mean of a retained class, over the mean distance
    between these means. In [0, ∞).

    retain [N, D] with labels [N]: all retained training samples. A text where it is not defined:
    fewer than two classes, means that coincide.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return f"distances to class means need 2 retained classes, got {len(classes)}"
    means = np.stack([retain[labels == c].mean(axis=0, dtype=np.float64) for c in classes])
    between = float(pdist(means).mean())
    if between <= _rounding(means):
        return f"the feature means of all {len(classes)} retained classes coincide"
    return {part: cdist(r, means).min(axis=1) / between for part, r in rows.items() if len(r)}


def projection(rows: np.ndarray) -> Projection:
    """The two main directions of feature rows [N, D] around their mean; the largest entry of each
    is positive. For D = 1 the second is 0.
    """
    wide = np.pad(rows, ((0, 0), (0, 1))) if rows.shape[1] == 1 else rows
    centre = wide.mean(axis=0)
    values, vectors = np.linalg.eigh((wide - centre).T @ (wide - centre))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    explained = values[::-1][:2].clip(0) / max(values.sum(), np.finfo(np.float64).tiny)
    return Projection(centre[: rows.shape[1]], axes[: rows.shape[1]], explained)


def cka(mine: np.ndarray, other: np.ndarray) -> float | None:
    """Linear CKA in [0, 1] of two models' features [N, D] and [N, E] of the same samples
    (metrics.similarity.linear_cka).

    None for fewer than MIN_PAIRED_SAMPLES samples, or features of a model that do not vary. Errors: rows
    that do not pair up.
    """
    if len(mine) != len(other):
        raise EigenforgetError(
            f"{len(mine)} rows of features cannot be paired with {len(other)} of the other model"
        )
    if len(mine) < MIN_PAIRED_SAMPLES:
        return None
    x, y = (torch.from_numpy(rows).double() for rows in (mine, other))
    means = x.mean(0), y.mean(0)
    x, y = x - means[0], y - means[1]
    if any(
        is_constant(samples=len(r), energy=float(r.square().sum()), mean=m)
        for r, m in zip((x, y), means, strict=True)
    ):
        return None
    return linear_cka(Cross(x.T @ x, y.T @ y, x.T @ y))


def _rounding(rows: np.ndarray) -> float:
    """Distances below this are rounding in float32, in which models compute."""
    return 1e-6 * float(np.linalg.norm(rows, axis=1).max(initial=0.0))
