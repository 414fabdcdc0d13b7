"""Geometry of features against independent numpy, scipy and scikit-learn references in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import orth, subspace_angles
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.analysis import geometry as g

K, WIDTH = 3, 7


PARTS = ("forget", "retain", "test_forget", "test_retain")


def features(seed: int = 0, width: int = WIDTH) -> dict[Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) * 0.6 ** np.arange(width)
    return {
        part: rng.normal(size=(n, width)) @ mix + rng.normal(size=width)
        for part, n in zip(PARTS, (20, 60, 12, 25), strict=True)
    }


def labels(rows: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    return {
        part: np.arange(len(r)) % 4 if "retain" in part else np.full(len(r), 4)
        for part, r in rows.items()
    }


@pytest.fixture(scope="module")
def rows() -> dict[Any, np.ndarray]:
    return features()


def basis(rows: np.ndarray, k: int, *, centred: bool = False) -> np.ndarray:
    """Leading right singular vectors [D, k]."""
    return np.linalg.svd(rows - rows.mean(0) * centred, full_matrices=False)[2][:k].T


def test_effective_ranks_have_their_closed_forms() -> None:
    assert g.effective_ranks(np.full(5, 0.3)) == pytest.approx((5, 5))
    assert g.effective_ranks(np.array([2.0])) == pytest.approx((1, 1))
    values = np.random.default_rng(1).uniform(0.1, 3, size=9)
    p = values / sum(values)
    assert g.effective_ranks(values) == pytest.approx(
        (sum(values) ** 2 / sum(v * v for v in values), np.prod(p**-p))
    )
    assert 1 < g.effective_ranks(values).participation < g.effective_ranks(values).entropy < 9


def test_energy_shares_by_a_loop(rows: dict[Any, np.ndarray]) -> None:
    u = basis(rows["retain"], K)
    slow = [sum(float(u[:, j] @ f) ** 2 for j in range(K)) / float(f @ f) for f in rows["forget"]]
    np.testing.assert_allclose(g.energy_shares(rows["forget"], u), slow, rtol=1e-12)
    np.testing.assert_allclose(g.energy_shares(1e-200 * rows["forget"], u), slow, rtol=1e-12)
    assert g.energy_shares(np.vstack([np.zeros(WIDTH), u.T]), u) == pytest.approx(
        np.ones(K)
    )  # zero rows have no share


def test_angles_are_those_that_were_built_in() -> None:
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    turned = np.radians([0.5, 30.0, 90.0])
    b = np.stack(
        [np.cos(t) * q[:, i] + np.sin(t) * q[:, 3 + i] for i, t in enumerate(turned)], axis=1
    )
    np.testing.assert_allclose(g.principal_angles(q[:, :3], b), [0.5, 30, 90], rtol=1e-7)


def test_neighbour_distances_by_brute_force(rows: dict[Any, np.ndarray]) -> None:
    found = g.neighbour_distances(rows)
    assert isinstance(found, dict)
    reference = {}
    for part, own in rows.items():
        distances = np.sort(cdist(own, rows["retain"]), axis=1)
        reference[part] = (
            distances[:, 1:6].mean(1) if part == "retain" else distances[:, :5].mean(1)
        )
    for part in PARTS:
        np.testing.assert_allclose(
            found[part], reference[part] / np.median(reference["test_retain"]), rtol=1e-9
        )  # type: ignore[index]
    assert np.median(found["test_retain"]) == pytest.approx(1)
    tree = (
        NearestNeighbors(n_neighbors=5, algorithm="kd_tree")
        .fit(rows["retain"])
        .kneighbors(rows["forget"])[0]
        .mean(1)
    )
    np.testing.assert_allclose(
        found["forget"], tree / np.median(reference["test_retain"]), rtol=1e-9
    )
    shifted = g.neighbour_distances({part: 5 * r + 100 for part, r in rows.items()})
    np.testing.assert_allclose(shifted["forget"], found["forget"], rtol=1e-8)  # type: ignore[index]


def test_class_mean_distances_by_a_loop(rows: dict[Any, np.ndarray]) -> None:
    found = g.class_mean_distances(rows, retain=rows["retain"], labels=labels(rows)["retain"])
    means = [rows["retain"][c::4].mean(0) for c in range(4)]
    between = np.mean([np.linalg.norm(means[i] - means[j]) for i in range(4) for j in range(i)])
    slow = [min(np.linalg.norm(f - m) for m in means) / between for f in rows["forget"]]
    np.testing.assert_allclose(found["forget"], slow, rtol=1e-10)  # type: ignore[index]


def test_distances_that_are_not_defined_say_why(rows: dict[Any, np.ndarray]) -> None:
    few = {**rows, "retain": rows["retain"][:5]}
    assert (
        g.neighbour_distances(few)
        == "distances to neighbours need 6 samples of the retain set, got 5"
    )
    flat = {part: np.ones_like(r) for part, r in rows.items()}
    assert "coincide" in str(g.neighbour_distances(flat))
    assert "coincide" in str(
        g.class_mean_distances(flat, retain=flat["retain"], labels=labels(rows)["retain"])
    )
    assert "need 2 retained classes" in str(
        g.class_mean_distances(rows, retain=rows["retain"], labels=np.zeros(60))
    )


def test_the_map_is_the_pca_of_the_retained_features(rows: dict[Any, np.ndarray]) -> None:
    axes, pca = g.principal_plane(rows["retain"]), PCA(2).fit(rows["retain"])
    np.testing.assert_allclose(axes.explained, pca.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(
        np.abs(axes.place(rows["forget"])),
        np.abs(pca.transform(rows["forget"])),
        rtol=1e-8,
        atol=1e-10,
    )
    one = g.principal_plane(rows["retain"][:, :1])
    assert one.place(rows["forget"][:, :1]).shape == (20, 2) and one.explained == pytest.approx(
        [1, 0]
    )


def test_cka_against_its_kernel_form(rows: dict[Any, np.ndarray]) -> None:
    x, y = (
        rows["retain"],
        np.tanh(rows["retain"] @ np.random.default_rng(3).normal(size=(WIDTH, 5))),
    )
    centre = np.eye(60) - 1 / 60
    a, b = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert g.cka(x, y) == pytest.approx(
        (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), rel=1e-10
    )
    assert g.cka(
        x, 3 * x @ np.linalg.qr(np.random.default_rng(4).normal(size=(WIDTH, WIDTH)))[0] + 1
    ) == pytest.approx(1)
    assert g.cka(x[:9], y[:9]) is None and g.cka(x, np.ones((60, 2))) is None
    with pytest.raises(EigenforgetError, match="cannot be paired"):
        g.cka(x, y[:-1])


def test_the_reference_is_orthonormal(rows: dict[Any, np.ndarray]) -> None:
    u = basis(rows["retain"], K)
    assert np.allclose(u.T @ u, np.eye(K)) and subspace_angles(u, orth(u)).max() < 1e-7
