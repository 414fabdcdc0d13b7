"""Numbers about where features lie: ranks, shares in a subspace, angles, distances, similarity.

All in float64.
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
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES, samples_of
from eigenforget.evaluation.metrics.similarity import (
    Cross,
    is_constant,
    linear_cka,
)

NEIGHBOURS = 5
"""Nearest samples of the retain set whose mean distance counts; one would follow outliers."""


class EffectiveRanks(NamedTuple):
    """Effective numbers of directions: 1 for all energy in one, R for even energy in R of them."""

    participation: float
    entropy: float


class PrincipalPlane(NamedTuple):
    """Centre [D], axes [D, 2] and the share of the variance that each axis holds."""

    centre: np.ndarray
    axes: np.ndarray
    explained: np.ndarray

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Coordinates [N, 2] of feature rows [N, D]."""
        places: np.ndarray = (rows - self.centre) @ self.axes
        return places


def effective_ranks(values: np.ndarray) -> EffectiveRanks:
    """Participation ratio 1 / Σp² and entropy rank exp(−Σ p ln p), both in [1, R].

    p = λ / Σλ are the shares of eigenvalues λ [R] > 0. The entropy form is the effective rank of
    Roy and Vetterli (EUSIPCO 2007). Here it is that of the eigenvalues of the Gram matrix, not of
    the singular values of the features, so that both forms speak of energy. It is at least the
    participation ratio.
    """
    shares = values / values.sum()
    shares = shares[shares > 0]
    return EffectiveRanks(
        float(1 / np.square(shares).sum()), float(np.exp(-(shares * np.log(shares)).sum()))
    )


def energy_shares(rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """‖Uᵀf‖² / ‖f‖² in [0, 1] of each feature row f: alignment in energy form for one sample.

    1 where the sample lies in the span of U, 0 where it is orthogonal to it. Rows that are all zero
    have no share and are left out.

    Args:
        rows: Features [N, D].
        basis: Orthonormal columns U [D, k].
    """
    scale = np.abs(rows).max(axis=1, initial=0.0)
    kept = rows[scale > 0] / scale[scale > 0, None]
    shares = np.square(kept @ basis).sum(axis=1) / np.square(kept).sum(axis=1)
    clipped: np.ndarray = np.clip(shares, 0.0, 1.0)
    return clipped


def principal_angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The min(p, q) angles in degrees, ascending, in [0, 90], between two subspaces.

    The first is the smallest angle between a direction of the one and of the other (Björck and
    Golub 1973, scipy.linalg.subspace_angles).

    Args:
        a: Orthonormal columns [D, p].
        b: Orthonormal columns [D, q].
    """
    degrees: np.ndarray = np.degrees(np.sort(subspace_angles(a, b)))
    return degrees


def neighbour_distances(rows: Mapping[Part, np.ndarray]) -> dict[Part, np.ndarray] | str:
    """Mean Euclidean distance of each sample to its NEIGHBOURS nearest samples of the retain set.

    In units of the median of this distance for held-out samples of retained classes (part
    test_retain): 1 is as near as retained data that was not trained on. In [0, ∞). A sample of the
    retain set is no neighbour of itself.

    Args:
        rows: Features [N, D] by part.

    Returns:
        The distances by part, or why they are not defined: too few samples, or held-out samples
        that coincide with the retain set.
    """
    needs: dict[Part, int] = {"retain": NEIGHBOURS + 1, "test_retain": 1}
    for part, least in needs.items():
        count = len(rows.get(part, ()))
        if count < least:
            return f"distances to neighbours need {least} {samples_of(part)}, got {count}"
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
        return "held-out samples coincide with the retain set: there is no distance to compare with"
    return {part: found / unit for part, found in distances.items()}


def class_mean_distances(
    rows: Mapping[Part, np.ndarray], *, retain: np.ndarray, labels: np.ndarray
) -> dict[Part, np.ndarray] | str:
    """Distance of each sample to the nearest mean of a retained class, in [0, ∞).

    In units of the mean distance between these means.

    Args:
        rows: Features [N, D] by part.
        retain: All features of the retain set [N, D].
        labels: Their labels [N].

    Returns:
        The distances by part, or why they are not defined: fewer than two classes, or means that
        coincide.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return f"distances to class means need 2 retained classes, got {len(classes)}"
    means = np.stack([retain[labels == c].mean(axis=0, dtype=np.float64) for c in classes])
    between = float(pdist(means).mean())
    if between <= _rounding(means):
        return f"the feature means of all {len(classes)} retained classes coincide"
    return {part: cdist(r, means).min(axis=1) / between for part, r in rows.items() if len(r)}


def principal_plane(rows: np.ndarray) -> PrincipalPlane:
    """The two main directions of feature rows [N, D] around their mean.

    The largest entry of each is positive. For D = 1 the second is 0.
    """
    wide = np.pad(rows, ((0, 0), (0, 1))) if rows.shape[1] == 1 else rows
    centre = wide.mean(axis=0)
    values, vectors = np.linalg.eigh((wide - centre).T @ (wide - centre))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    explained = values[::-1][:2].clip(0) / max(values.sum(), np.finfo(np.float64).tiny)
    return PrincipalPlane(centre[: rows.shape[1]], axes[: rows.shape[1]], explained)


def cka(mine: np.ndarray, other: np.ndarray) -> float | None:
    """Linear CKA in [0, 1] of two models' features of the same samples; see similarity.linear_cka.

    Args:
        mine: Features [N, D].
        other: Features [N, E].

    Returns:
        None for fewer than MIN_SAMPLES samples, or features of a model that do not vary.

    Raises:
        EigenforgetError: The rows do not pair up.
    """
    if len(mine) != len(other):
        raise EigenforgetError(
            f"{len(mine)} rows of features cannot be paired with {len(other)} of the other model"
        )
    if len(mine) < MIN_SAMPLES:
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
