"""Feature maps: three models side by side, the forget set marked, and whom it lies among."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures.maps import (
    MAP_NEIGHBOURS,
    MOST_CHOICES,
    map_models,
    maps_figure,
    maps_reading,
)
from tests.report_toys import GONE, made, whole


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return whole()


@pytest.mark.parametrize("kind", ["pca", "tsne", "umap"])
def test_the_original_a_judged_and_a_retrained_model_stand_side_by_side(
    records: list[RunRecord], kind: str
) -> None:
    fig = maps_figure(records, kind=kind)
    judged = ["one", "two", "three", "four", "mask"]
    assert list(fig.choices) == judged and fig.columns == 3
    assert [(plot.title, plot.choice) for plot in fig.plots] == [
        ("original", None),
        *((f"{n} ({'control' if n == 'mask' else 'unlearned'})", i) for i, n in enumerate(judged)),
        ("oracle 1 (retrained)", None),
    ]
    titles = {plot.x.title for plot in fig.plots}
    assert titles == ({"direction 1 (30% of variance)"} if kind == "pca" else {""})


def test_the_forget_set_is_marked_and_every_sample_is_drawn_once(records: list[RunRecord]) -> None:
    pca, plot = records[0].series["pca"], maps_figure(records).plots[0]
    rows = [i for i, forget in enumerate(pca["forget"]) if forget]
    marked = next(t for t in plot.traces if t.name == "forget set")
    assert list(marked.x) == [pca["x"][i] for i in rows]
    assert list(marked.y) == [pca["y"][i] for i in rows]
    assert list(marked.texts) == [f"test/{i}, class {GONE}" for i in rows]
    others = [t for t in plot.traces if t.name.startswith("class ")]
    assert [t.name for t in others] == [f"class {c}" for c in range(10) if c != GONE]
    assert sum(len(t.x) for t in others) == len(pca["x"]) - len(rows)
    names = next(t for t in plot.traces if t.labels)
    assert list(names.labels) == [str(c) for c in range(10) if c != GONE]
    zeros = [x for x, label in zip(pca["x"], pca["label"], strict=True) if label == 0]
    assert names.x[0] == np.median(zeros)


def with_map(x: list[float], label: list[Any], forget: list[bool], **fields: Any) -> RunRecord:
    pca = {"x": x, "y": [0.0] * len(x), "label": label, "forget": forget, "explained": [0.6, 0.3]}
    return made("m", "unlearned", [], series={"pca": {**pca, "id": list(map(str, x))}}, **fields)


def test_a_class_on_both_sides_has_its_samples_drawn_once() -> None:
    """At random: class 1 has a retained and a forgotten sample."""
    fig = maps_figure([with_map([0.0, 1.0, 2.0], [0, 1, 1], [False, False, True])])
    drawn = {t.name: list(t.x) for t in fig.plots[0].traces if t.x and not t.labels}
    assert drawn == {"class 0": [0.0], "class 1": [1.0], "forget set": [2.0]}


@pytest.mark.parametrize(("apart", "share"), [(True, "100%"), (False, "50%")])
def test_neighbours_of_forget_samples_are_counted(apart: bool, share: str) -> None:
    """Far away from all others; or in turn with them on a circle, where half are of the kind."""
    n = 2 * (MAP_NEIGHBOURS + 1)
    forget = [i % 2 == 0 for i in range(n)]
    if apart:
        x = [1000.0 + i if side else float(i) for i, side in enumerate(forget)]
        record = with_map(x, [0] * n, forget)
    else:
        angle = 2 * np.pi * np.arange(n) / n
        record = with_map(np.cos(angle).tolist(), [0] * n, forget)
        record.series["pca"]["y"] = np.sin(angle).tolist()
    # On the circle five neighbours stand on either side, and those at 2 and 4 places are its kind.
    expected = share if apart else "40%"
    assert f"{expected} in m are forget samples" in maps_reading([record])


def test_too_few_samples_say_nothing() -> None:
    assert maps_reading([with_map([0.0, 1.0], [0, 1], [False, True])]) == ""


def test_a_map_without_forget_samples_says_so_and_lists_none() -> None:
    """Held-out samples have no forget set where single samples are forgotten."""
    bare = [with_map([0.0, 1.0], [0, 1], [False, False])]
    assert "None of these samples is of the forget set" in maps_reading(bare)
    (plot,) = maps_figure(bare).plots
    assert "forget set" not in {trace.name for trace in plot.traces}


def test_many_models_are_cut_and_none_is_an_error() -> None:
    many = {"original": "original", **{f"m{i}": "unlearned" for i in range(20)}}
    assert len(map_models(whole(models=many), "pca").judged) == MOST_CHOICES  # type: ignore[arg-type]
    with pytest.raises(RecordError, match="no record has the series 'umap'"):
        maps_figure([made("m", "unlearned", [])], kind="umap")
    with pytest.raises(RecordError, match=r"'m': series pca .*'explained'"):
        maps_figure([made("m", "unlearned", [], series={"pca": {"x": [1.0]}})])
