"""The series of a layer against singular vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from eigenforget.evaluation.analysis.series import CAP, AnalysisSettings, draw_samples, of_layer

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


@pytest.fixture(scope="module")
def series(rows: dict[Any, np.ndarray]) -> dict[str, Any]:
    return of_layer(rows, AnalysisSettings(K, 0, labels(rows)))


def basis(rows: np.ndarray, k: int, *, centred: bool = False) -> np.ndarray:
    """Leading right singular vectors [D, k]."""
    return np.linalg.svd(rows - rows.mean(0) * centred, full_matrices=False)[2][:k].T


def test_values_and_curves_against_singular_vectors(
    rows: dict[Any, np.ndarray], series: dict[str, Any]
) -> None:
    for part in ("forget", "test_forget", "test_retain"):
        values = series["values"][part]
        for suffix, form, centred in (("", "none", False), ("_centred", "each", True)):
            own = rows[part] - rows[part].mean(0) * centred
            gram, u = own.T @ own, basis(rows["retain"], K, centred=centred)
            da, energy = (
                np.linalg.norm(gram @ u @ u.T) / np.linalg.norm(gram),
                np.trace(u.T @ gram @ u) / np.trace(gram),
            )
            assert (values[f"da{suffix}"], values[f"energy{suffix}"]) == pytest.approx(
                (da, energy), rel=1e-9
            )
            curves = series["curves"][part]
            at = curves["k"].index(K)
            assert (curves[f"frobenius_{form}"][at], curves[f"energy_{form}"][at]) == pytest.approx(
                (da, energy), rel=1e-5
            )
            angles = np.degrees(
                np.sort(subspace_angles(basis(rows[part], WIDTH - K, centred=centred), u))
            )
            np.testing.assert_allclose(series["angles"][form][part], angles, rtol=1e-5, atol=1e-5)
            assert values[f"angle{suffix}"] == pytest.approx(angles[0]) and values[
                f"angle_mean{suffix}"
            ] == pytest.approx(angles.mean())


def test_spectra_ranks_and_shares(rows: dict[Any, np.ndarray], series: dict[str, Any]) -> None:
    for part, own in rows.items():
        for form, centred in (("none", False), ("each", True)):
            energy = np.linalg.svd(own - own.mean(0) * centred, compute_uv=False) ** 2
            p = energy / energy.sum()
            np.testing.assert_allclose(series["spectrum"][form][part], p, rtol=1e-5)
            rank = series["rank"][form][part]
            assert (rank["participation"], rank["entropy"]) == pytest.approx(
                (1 / (p**2).sum(), np.exp(-(p * np.log(p)).sum())), rel=1e-9
            )
        shares = np.square(own @ basis(rows["retain"], K)).sum(1) / np.square(own).sum(1)
        found = series["shares"][part]
        np.testing.assert_allclose(
            found["quantiles"], np.quantile(shares, [0.05, 0.25, 0.5, 0.75, 0.95]), rtol=1e-5
        )
        np.testing.assert_allclose(
            found["histogram"],
            np.bincount((shares * 25).astype(int), minlength=25) / len(own),
            rtol=1e-5,
        )
        assert series["values"][part]["share"] == pytest.approx(np.median(shares)) and found[
            "mean"
        ] == pytest.approx(shares.mean(), rel=1e-5)


def test_the_order_of_samples_does_not_matter(
    rows: dict[Any, np.ndarray], series: dict[str, Any]
) -> None:
    order = {part: np.random.default_rng(5).permutation(len(r)) for part, r in rows.items()}
    turned, own = (
        {p: r[order[p]] for p, r in rows.items()},
        {p: lab[order[p]] for p, lab in labels(rows).items()},
    )
    again = of_layer(turned, AnalysisSettings(K, 0, own))
    for part, values in series["values"].items():
        for name, value in values.items():
            assert again["values"][part][name] == pytest.approx(value, rel=1e-9), (part, name)


def test_with_more_classes_than_dimensions_k_is_half_of_these(rows: dict[Any, np.ndarray]) -> None:
    many, half = (
        of_layer(rows, AnalysisSettings(k, 0, labels(rows))) for k in (10 * WIDTH, WIDTH // 2)
    )
    assert many == half and many["k"] == WIDTH // 2


def test_what_is_not_defined_is_null_with_a_reason(rows: dict[Any, np.ndarray]) -> None:
    flat = {
        part: np.outer(r[:, 0], np.arange(1, WIDTH + 1)) for part, r in rows.items()
    }  # they span one direction
    found = of_layer(flat, AnalysisSettings(K, 0, labels(rows)))
    assert (
        found["values"]["forget"]["da"] is None
        and "only up to k = 1 here" in found["reasons"]["da"]
    )
    assert found["values"]["forget"]["share"] is None and "span only 1" in found["reasons"]["share"]
    gone = of_layer({**rows, "forget": np.zeros((20, WIDTH))}, AnalysisSettings(K, 0, labels(rows)))
    assert (
        gone["values"]["forget"]["da"] is None
        and "all forget features are zero" in gone["reasons"]["da"]
    )
    assert (
        gone["rank"]["none"]["forget"] == {"participation": None, "entropy": None}
        and gone["spectrum"]["none"]["forget"] == []
    )


def test_draws_are_capped_and_the_same_each_time() -> None:
    assert draw_samples(50, seed=0, part="forget").tolist() == list(range(50))
    one, two = (
        draw_samples(CAP + 900, seed=0, part="retain"),
        draw_samples(CAP + 900, seed=0, part="retain"),
    )
    assert len(one) == CAP and (one == two).all() and (np.diff(one) > 0).all()
    assert (draw_samples(CAP + 900, seed=1, part="retain") != one).any() and (
        draw_samples(CAP + 900, seed=0, part="forget") != one
    ).any()
