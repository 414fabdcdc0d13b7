"""Analysis: every number against an independent numpy, scipy or scikit-learn reference in float64;
automatic layers; the command.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import orth, subspace_angles
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.analysis import analyse, earlier_layers
from eigenforget.evaluation.analysis import geometry as g
from eigenforget.evaluation.analysis.series import CAP, Setting, draw, of_layer
from eigenforget.models.vit_tiny import VitTiny
from eigenforget.record import RunRecord, read_folder
from tests import toys

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
    return of_layer(rows, Setting(K, 0, labels(rows)))


def basis(rows: np.ndarray, k: int, *, centred: bool = False) -> np.ndarray:
    """Leading right singular vectors [D, k]."""
    return np.linalg.svd(rows - rows.mean(0) * centred, full_matrices=False)[2][:k].T


# --- geometry ---


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
        g.neighbour_distances(few) == "distances to neighbours need 6 samples of part retain, got 5"
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
    axes, pca = g.projection(rows["retain"]), PCA(2).fit(rows["retain"])
    np.testing.assert_allclose(axes.explained, pca.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(
        np.abs(axes.place(rows["forget"])),
        np.abs(pca.transform(rows["forget"])),
        rtol=1e-8,
        atol=1e-10,
    )
    one = g.projection(rows["retain"][:, :1])
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


# --- the series of a layer ---


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
    again = of_layer(turned, Setting(K, 0, own))
    for part, values in series["values"].items():
        for name, value in values.items():
            assert again["values"][part][name] == pytest.approx(value, rel=1e-9), (part, name)


def test_with_more_classes_than_dimensions_k_is_half_of_these(rows: dict[Any, np.ndarray]) -> None:
    many, half = (of_layer(rows, Setting(k, 0, labels(rows))) for k in (10 * WIDTH, WIDTH // 2))
    assert many == half and many["k"] == WIDTH // 2


def test_what_is_not_defined_is_null_with_a_reason(rows: dict[Any, np.ndarray]) -> None:
    flat = {
        part: np.outer(r[:, 0], np.arange(1, WIDTH + 1)) for part, r in rows.items()
    }  # they span one direction
    found = of_layer(flat, Setting(K, 0, labels(rows)))
    assert found["values"]["forget"]["da"] is None and "exceeds 1" in found["reasons"]["da"]
    assert found["values"]["forget"]["share"] is None and "span only 1" in found["reasons"]["share"]
    gone = of_layer({**rows, "forget": np.zeros((20, WIDTH))}, Setting(K, 0, labels(rows)))
    assert (
        gone["values"]["forget"]["da"] is None
        and "all forget features are zero" in gone["reasons"]["da"]
    )
    assert (
        gone["rank"]["none"]["forget"] == {"participation": None, "entropy": None}
        and gone["spectrum"]["none"]["forget"] == []
    )


def test_draws_are_capped_and_the_same_each_time() -> None:
    assert draw(50, 0, "forget").tolist() == list(range(50))
    one, two = draw(CAP + 900, 0, "retain"), draw(CAP + 900, 0, "retain")
    assert len(one) == CAP and (one == two).all() and (np.diff(one) > 0).all()
    assert (draw(CAP + 900, 1, "retain") != one).any() and (
        draw(CAP + 900, 0, "forget") != one
    ).any()


# --- models ---


def test_all_models_are_measured_and_compared() -> None:
    world = toys.world()
    models, roles = [world.originals[0], *world.oracles[:2]], ["original", "oracle", "oracle"]
    panel = world.panel(layers=("0",))
    before = [p.clone() for m in models for p in m.parameters()]
    found = analyse(panel, models, roles)  # type: ignore[arg-type]
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, (p for m in models for p in m.parameters()), strict=True)
    )
    assert [list(m.series["analysis"]) for m in found] == [["0", "input of 4"]] * 3
    assert [s.name for s in found[0].scores] == ["da@0", "da_energy@0", "da", "da_energy"]
    seen = [world.seen(m, layers=("0",)) for m in models]
    full = panel.measure(models[0])
    assert found[0].value("da") == pytest.approx(full.value("da"), rel=1e-9) and found[0].value(
        "da@0"
    ) == pytest.approx(full.value("da@0"))
    for part in PARTS:
        x, y, z = (s[part].features for s in seen)  # type: ignore[index]
        mine = found[1].series["analysis"]["input of 4"]["cka"]
        assert mine["original"][part] == pytest.approx(g.cka(y, x)) and mine["oracle"][
            part
        ] == pytest.approx(g.cka(y, z))
    assert "original" not in found[0].series["analysis"]["0"]["cka"]
    again = analyse(panel, models, roles)  # type: ignore[arg-type]
    assert [replace_time(m) for m in again] == [replace_time(m) for m in found]


def replace_time(measured: Any) -> Any:
    return measured._replace(seconds=0.0)


def test_layers_are_found_where_none_is_named() -> None:
    images = toys.TensorSource(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))
    vit = VitTiny(dim=16, depth=5, heads=2, patch=4).build(
        num_classes=4, input_shape=(1, 8, 8), seed=0
    )
    assert earlier_layers(vit, images, engine=toys.ENGINE) == ("blocks.0", "blocks.2", "blocks.4")
    assert earlier_layers(toys.net(), toys.source([0, 1]), engine=toys.ENGINE) == ("0", "2")
    assert earlier_layers(toys.net(), toys.source([0, 1]), engine=toys.ENGINE, layer="2") == ("0",)
    assert (
        earlier_layers(nn.Sequential(nn.Linear(8, 4)), toys.source([0, 1]), engine=toys.ENGINE)
        == ()
    )


def test_features_that_are_not_finite_are_an_error() -> None:
    world = toys.world()
    broken = toys.net()
    with torch.no_grad():
        broken[0].weight[0, 0] = torch.inf
    with pytest.raises(
        EigenforgetError, match=r"part forget, layer '0': the model's features are not finite"
    ):
        analyse(world.panel(layers=("0",)), [broken], ["original"])


def test_orthonormal_reference_is_orthonormal(rows: dict[Any, np.ndarray]) -> None:
    u = basis(rows["retain"], K)
    assert np.allclose(u.T @ u, np.eye(K)) and subspace_angles(u, orth(u)).max() < 1e-7


def test_the_command_writes_records_and_a_page(
    digits: Any, trained: nn.Module, tmp_path: Path
) -> None:
    from eigenforget.cli import main
    from eigenforget.models import checkpoint

    oracle = (
        replace(digits, recipe=replace(digits.recipe, epochs=1))
        .train(seed=1, without_forget=True)
        .model
    )
    for name, model in (("original", trained), ("oracle", oracle)):
        meta = {"data": "digits()", "model": "small_resnet(width=8)"}
        checkpoint.save_checkpoint(model, tmp_path / f"{name}.safetensors", metadata=meta)
    command = [
        "analyze",
        "--original",
        str(tmp_path / "original.safetensors"),
        "--oracle",
        str(tmp_path / "oracle.safetensors"),
    ]
    command += [
        "--forget",
        "by_class(label=3)",
        "--out",
        str(tmp_path / "a.html"),
        "--device",
        "cpu",
    ]
    main(command)
    records: list[RunRecord] = read_folder(tmp_path / "a-records")
    assert [r.role for r in records] == ["original", "oracle"] and records[0].job["layers"] == [
        "layer1",
        "layer2",
    ]
    assert set(records[0].series["analysis"]) == {"layer1", "layer2", "input of fc"}
    assert "Features of seen and unseen data" in (tmp_path / "a.html").read_text()
    with pytest.raises(SystemExit):
        main(command)
