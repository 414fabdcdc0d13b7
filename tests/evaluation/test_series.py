"""Further maps of features: the same bits each time, the same samples in each map, structure that
survives, and refusals.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import confusion_matrix

from eigenforget.alignment import alignment_of_rows
from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.board import Panel
from eigenforget.evaluation.evidence import PartOutputs
from eigenforget.evaluation.series import (
    CLASS_DIRECTIONS,
    CLASS_SAMPLES,
    check_maps,
    class_alignment_series,
    class_series,
    map_series,
)
from eigenforget.record import record_from_json, to_json
from eigenforget.report.figures.attack_figures import roc_figure
from eigenforget.report.figures.class_alignment_figures import class_alignment_figure
from eigenforget.report.figures.confusion_figures import confusion_figure
from eigenforget.report.figures.maps import maps_figure
from eigenforget.report.figures.render import rendered
from tests.report_toys import made, whole
from tests.toys import CLASSES, world

BAD = '"><script>alert(1)</script>'


def held_out(n: int = 60, width: int = 5, seed: int = 0) -> dict[str, PartOutputs]:
    """Three clusters; class 2 is forgotten."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    features = rng.normal(size=(n, width)) + 12 * np.eye(3, width)[labels]
    sides = {"test_forget": labels == 2, "test_retain": labels != 2}
    return {
        part: PartOutputs(np.zeros((s.sum(), 3)), features[s], labels[s], np.flatnonzero(s))
        for part, s in sides.items()
    }


def maps(
    seen: dict[str, PartOutputs], *, points: int = 45, seed: int = 0, ids: list[str] | None = None
) -> dict[str, dict[str, list[float]]]:
    return map_series(seen, ("tsne",), forgotten_classes=(2,), ids=ids, points=points, seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "width"), [(60, 5), (30, 200)])
def test_the_map_is_principal_component_analysis_on_either_side(n: int, width: int) -> None:
    seen = held_out(n, width)
    found = map_series(seen, (), forgotten_classes=(2,), ids=None, points=n, seed=0)["pca"]
    features = np.concatenate([seen[part].features for part in ("test_forget", "test_retain")])
    pca = PCA(2, svd_solver="full").fit(features)
    assert found["explained"] == pytest.approx(pca.explained_variance_ratio_, rel=1e-5)
    places = np.stack([found["x"], found["y"]], axis=1)
    np.testing.assert_allclose(
        np.abs(places), np.abs(pca.transform(features)), rtol=1e-4, atol=1e-4
    )


def test_t_sne_has_the_same_bits_each_time_and_others_with_another_seed() -> None:
    one, two, other = maps(held_out()), maps(held_out()), maps(held_out(), seed=1)
    assert one == two and one["tsne"]["x"] != other["tsne"]["x"]


def test_each_map_shows_the_same_samples() -> None:
    ids = [f"test/{i}" for i in range(60)]
    found = maps(held_out(), ids=ids)
    for what in ("label", "id", "forget"):
        assert found["pca"][what] == found["tsne"][what] and len(found["tsne"][what]) == 45
    assert len(set(found["tsne"]["id"])) == 45 and found["tsne"]["forget"] == [
        label == 2 for label in found["tsne"]["label"]
    ]
    # ids name the samples of test_forget first.
    assert all(
        (int(str(i).removeprefix("test/")) < 20) == f
        for i, f in zip(found["tsne"]["id"], found["tsne"]["forget"], strict=True)
    )
    assert "explained" in found["pca"] and "explained" not in found["tsne"]


def test_neighbours_stay_neighbours() -> None:
    seen = held_out()
    found = maps(seen, points=60)["tsne"]
    features = np.concatenate([seen[p].features for p in ("test_forget", "test_retain")])
    places = np.stack([found["x"], found["y"]], 1)
    assert trustworthiness(features, places, n_neighbors=8) > 0.8
    labels = np.array(found["label"])
    nearest = ((places[:, None] - places) ** 2).sum(-1) + np.diag(np.full(60, np.inf))
    assert (labels[nearest.argmin(1)] == labels).mean() > 0.9


@pytest.mark.parametrize(
    "seen",
    [held_out(4), {"test_retain": held_out(30)["test_retain"]._replace(features=np.ones((20, 5)))}],
)
def test_nothing_to_spread_makes_no_map(seen: dict[str, PartOutputs]) -> None:
    found = maps(seen)
    assert found["tsne"] == {} and found["pca"]


def test_unknown_kinds_are_refused_before_anything_is_measured() -> None:
    for kinds in (("pca",), ("tsne", "tsne"), ("t-sne",)):
        with pytest.raises(
            EigenforgetError,
            match=f"further maps are of tsne, umap, each once; got {', '.join(kinds)}",
        ):
            world().panel(maps=kinds)
    check_maps(("tsne",))


def test_umap_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(
        EigenforgetError,
        match=r"a UMAP map needs umap, which is not installed: pip install 'eigenforget\[umap\]'",
    ):
        world().panel(maps=("umap",))


def test_umap_gets_a_seed_and_no_more_neighbours_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against a stand-in: the library is an extra."""
    calls = []

    class UMAP:
        def __init__(self, **settings: int) -> None:
            calls.append(settings)

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2].astype(np.float32)

    module = type(sys)("umap")
    module.UMAP = UMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    settings = {"forgotten_classes": (2,), "ids": None, "seed": 0}
    for points in (10, 40):
        found = map_series(held_out(), ("umap",), points=points, **settings)  # type: ignore[arg-type]
        assert len(found["umap"]["x"]) == points and found["umap"]["id"] == found["pca"]["id"]
    assert (
        [c["n_neighbors"] for c in calls] == [9, 15]
        and calls[0]["random_state"] == calls[1]["random_state"]
        and calls[0]["n_jobs"] == 1
    )


def test_a_panel_makes_the_maps_that_it_is_asked_for() -> None:
    w = world()
    plain, asked = (w.panel(maps=kinds, map_points=30) for kinds in ((), ("tsne",)))
    assert isinstance(asked, Panel)
    series = [panel.series(panel.observe(w.originals[0])) for panel in (plain, asked)]
    assert (
        "tsne" not in series[0]
        and series[1]["tsne"]["id"] == series[0]["pca"]["id"] == series[1]["pca"]["id"]
    )


def test_what_a_panel_measures_is_what_the_report_draws() -> None:
    w = world()
    measured = w.panel(maps=("tsne",), map_points=30, skip=("relearning",)).measure(w.originals[0])
    record = made("original", "original", [], series=measured.series)
    assert record_from_json(json.loads(json.dumps(to_json(record)))) == record
    assert len(roc_figure([record]).plots[0].traces) == 3
    assert maps_figure([record], kind="tsne").plots[0].traces
    assert class_alignment_figure([record]).plots[0].traces
    (plot,) = confusion_figure([record]).plots
    counts = np.array(measured.series["confusion"]["counts"])
    accuracy = {s.name: s.value for s in measured.scores}["test_retain_accuracy"]
    kept = [c for c in range(len(counts)) if c not in w.gone]
    assert counts.diagonal()[kept].sum() / counts[kept].sum() == pytest.approx(accuracy)
    assert [s.y[0] for s in plot.shapes] == [c - 0.5 for c in w.gone]


@pytest.mark.parametrize("kind", ["tsne", "umap"])
def test_figures_of_further_maps_claim_no_variance_and_escape_what_they_show(kind: str) -> None:
    records = whole(points=30)
    text = rendered(maps_figure(records, kind=kind), "alt")
    assert "variance" not in text and "direction" not in text
    hostile = {**records[0].series[kind], "label": [BAD] * 30, "id": [BAD] * 30}
    text = rendered(
        maps_figure([made(BAD, "original", [], series={kind: hostile})], kind=kind), "alt"
    )
    assert "<script" not in text and "&lt;script" in text


@pytest.mark.parametrize("outputs", [CLASSES, CLASSES + 3])
def test_the_series_by_class_are_counts(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    sizes = {"forget": 9, "retain": 40, "test_forget": 7, "test_retain": 30}
    seen = {}
    for part, n in sizes.items():
        labels = np.full(n, 2) if part.endswith("forget") else rng.choice([0, 3], n)
        seen[part] = PartOutputs(
            rng.normal(size=(n, outputs)), np.zeros((n, 1)), labels, np.arange(n)
        )
    found = class_series(seen, CLASSES)  # type: ignore[arg-type]
    for side, parts in (("train", ("forget", "retain")), ("test", ("test_forget", "test_retain"))):
        right, count = [0] * CLASSES, [0] * CLASSES
        for part in parts:
            for logits, label in zip(seen[part].logits, seen[part].labels, strict=True):
                count[label] += 1
                right[label] += int(max(range(outputs), key=lambda c: logits[c]) == label)
        assert found["per_class"][f"{side}_count"] == count
        for value, k, n in zip(found["per_class"][side], right, count, strict=True):
            assert value is None if n == 0 else value == pytest.approx(k / n, rel=1e-5)
    labels, logits = (
        np.concatenate([getattr(seen[p], c) for p in ("test_forget", "test_retain")])
        for c in ("labels", "logits")
    )
    matrix = confusion_matrix(labels, logits.argmax(axis=1), labels=range(outputs))
    assert np.array_equal(found["confusion"]["counts"], matrix[:CLASSES])
    assert class_series({"retain": seen["retain"]}, 101)["confusion"] == {}  # type: ignore[dict-item]


def with_directions(share: float, count: int = 400) -> dict[str, PartOutputs]:
    """Classes 0 and 1 lie along the first two axes, class 2 has no energy; the forget set has this
    share of its energy along the axis of class 1.
    """
    rng = np.random.default_rng(5)
    labels = np.arange(count) % 3
    axes = np.concatenate([np.eye(2, 6), np.zeros((1, 6))])
    retain = axes[labels] * rng.uniform(1, 2, (count, 1))
    forget = rng.uniform(1, 2, (30, 1)) * (
        np.sqrt(share) * np.eye(6)[1] + np.sqrt(1 - share) * np.eye(6)[4]
    )
    sides = {"retain": (retain, labels), "forget": (forget, np.full(30, 3))}
    return {
        part: PartOutputs(np.zeros((len(f), 4)), f, y, np.arange(len(f)))
        for part, (f, y) in sides.items()
    }


def test_a_forget_set_lies_where_it_was_put() -> None:
    found = class_alignment_series(with_directions(0.7))["class_alignment"]  # type: ignore[arg-type]
    assert found["label"] == [0, 1, 2] and found["k"] == CLASS_DIRECTIONS == 1
    assert found["energy"] == [pytest.approx(0.0, abs=1e-12), pytest.approx(0.7), None]


@pytest.mark.parametrize(("width", "each"), [(6, 40), (300, 40), (6, 3 * CLASS_SAMPLES)])
def test_class_alignment_is_that_of_singular_vectors(width: int, each: int) -> None:
    rng = np.random.default_rng(width)
    labels = np.arange(3 * each) % 3
    retain = rng.normal(size=(3 * each, width)) + 3 * rng.normal(size=(3, width))[labels]
    forget = rng.normal(size=(20, width)) + 1
    seen = {
        "retain": PartOutputs(np.zeros((3 * each, 4)), retain, labels, np.arange(3 * each)),
        "forget": PartOutputs(np.zeros((20, 4)), forget, np.full(20, 3), np.arange(20)),
    }
    found = class_alignment_series(seen)["class_alignment"]["energy"]  # type: ignore[arg-type]
    for c, energy in enumerate(found):
        rows = retain[labels == c][:: max(1, each // CLASS_SAMPLES)]
        axis = np.linalg.svd(rows)[2][0]
        expected = ((forget @ axis) ** 2).sum() / (forget**2).sum()
        assert energy == pytest.approx(expected, rel=1e-5)
        same = alignment_of_rows(
            torch.from_numpy(forget), retain=torch.from_numpy(rows), k=1, form="energy"
        )
        assert energy == pytest.approx(float(same), rel=1e-5)


def test_features_without_a_direction_to_spare_have_no_class_alignment() -> None:
    seen = with_directions(0.5)
    for cut in (lambda f: f[:, :1], lambda f: 0 * f):
        narrow = {part: rows._replace(features=cut(rows.features)) for part, rows in seen.items()}
        assert class_alignment_series(narrow) == {"class_alignment": {}}  # type: ignore[arg-type]


def test_one_held_out_sample_is_one_place_in_the_map() -> None:
    seen = {"test_retain": held_out(1, 5)["test_retain"]}
    rows = len(seen["test_retain"].labels)
    found = map_series(seen, (), forgotten_classes=(), ids=None, points=9, seed=0)["pca"]
    assert rows == 1 and found["x"] == found["y"] == [0.0] and len(found["explained"]) == 2
