"""Figures of scores, alignment, features and training, against the numbers of their records."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import overview as figures
from eigenforget.report.table import build
from tests.report_toys import GONE, ROLES, SCORES, made, score, whole


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return whole()


def series(records: list[RunRecord], name: str) -> list[Any]:
    return [r.series[name] for r in records]


def test_da_curves_are_one_line_per_model_with_its_numbers(records: list[RunRecord]) -> None:
    fig, curves = figures.da_figure(records), series(records, "da_curve")
    lines = [t for t in fig.data if t.visible]
    assert [t.name for t in lines] == list(ROLES) and len(fig.data) == 2 * len(ROLES)
    assert [list(t.x) for t in lines] == [c["k"] for c in curves]
    assert [list(t.y) for t in lines] == [c["frobenius_none"] for c in curves]
    assert [(s.x0, s.x1) for s in fig.layout.shapes] == [(9, 9)]
    mark = next(a for a in fig.layout.annotations if a.text == "k = 9")
    assert fig.layout.xaxis.type == "log" and mark.x == pytest.approx(math.log10(9))
    choices = {choice["label"]: choice["visible"] for choice in fig.layout.meta["choices"]}
    assert list(choices) == ["Frobenius, raw", "energy, centred"] and not fig.layout.updatemenus
    assert choices["Frobenius, raw"] == [t.visible for t in fig.data]
    other = [t for t, on in zip(fig.data, choices["energy, centred"], strict=True) if on]
    assert [list(t.y) for t in other] == [c["energy_each"] for c in curves]


def test_feature_maps_mark_the_forget_set(records: list[RunRecord]) -> None:
    fig, pca = figures.maps_figure(records), records[0].series["pca"]
    titles = [a.text for a in fig.layout.annotations]
    assert titles == [
        f"<b>{n}</b>" for n in ("original", "oracle 1", "one", "two", "three", "four")
    ]
    marked = [t for t in fig.data if t.name == "forget set"]
    assert len(marked) == 6 and sum(bool(t.showlegend) for t in marked) == 1
    rows = [i for i, forget in enumerate(pca["forget"]) if forget]
    for axis in "xy":
        assert list(marked[0][axis]) == pytest.approx([pca[axis][i] for i in rows], rel=5e-4)
    assert list(marked[0].text) == [f"test/{i}" for i in rows] and marked[0].marker.symbol == "x"
    assert list(marked[0].customdata) == [str(GONE)] * len(rows)
    others = [t for t in fig.data if t.xaxis == "x" and t.name != "forget set"]
    assert [t.name for t in others] == [f"class {c}" for c in range(10) if c != GONE]
    assert sum(len(t.x) for t in others) == len(pca["x"]) - len(rows)
    assert "1 (30%" in fig.layout.xaxis.title.text and "2 (20%" in fig.layout.yaxis.title.text


def test_feature_maps_of_chosen_models_and_other_kinds(records: list[RunRecord]) -> None:
    two = figures.maps_figure(records, ["two", "one"], kind="tsne")
    assert [a.text for a in two.layout.annotations] == ["<b>two</b>", "<b>one</b>"]
    assert two.layout.xaxis.title.text is None
    with pytest.raises(RecordError, match=r"'nobody'.*original, oracle 1"):
        figures.maps_figure(records, ["nobody"])


def test_a_class_on_both_sides_has_its_samples_drawn_once() -> None:
    """At random: class 1 has a retained and a forgotten sample."""
    places: dict[str, Any] = {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0], "label": [0, 1, 1]}
    pca = {**places, "id": ["a", "b", "c"], "forget": [False, False, True], "explained": [0.6, 0.3]}
    fig = figures.maps_figure([made("m", "original", [], series={"pca": pca})])
    drawn = {t.name: list(t.text) for t in fig.data}
    assert drawn == {"class 0": ["a"], "class 1": ["b"], "forget set": ["c"]}


def test_spectra_are_logarithmic_and_leave_zeros_out(records: list[RunRecord]) -> None:
    given = {"retain": [0.75, 0.25, 0.0], "forget": [0.9, 0.1]}
    fig = figures.spectra_figure([replace(records[0], series={"spectrum": given})])
    assert fig.layout.yaxis.type == fig.layout.yaxis2.type == "log"
    drawn = [(t.xaxis, list(t.x), list(t.y)) for t in fig.data]
    assert drawn == [("x", [1, 2], [0.75, 0.25]), ("x2", [1, 2], [0.9, 0.1])]


def test_dots_intervals_and_the_retrained_band(records: list[RunRecord]) -> None:
    wide = [
        replace(
            r,
            scores=tuple(
                replace(s, low=max(0, s.value - 0.01), high=min(1, s.value + 0.02))
                for s in r.scores
                if s.value is not None
            ),
        )
        for r in records
    ]
    fig, table = figures.scores_figure(wide), build(wide)
    spans = {c.name: c.range for c in table.columns}
    names = [c.name for c in table.columns if c.name in SCORES]
    for i, name in enumerate(names):
        panel = "x" if i == 0 else f"x{i + 1}"
        dots = [t for t in fig.data if t.xaxis == panel]
        cells = [row.cells[name] for row in table.rows]
        assert [t.x[0] for t in dots] == [c.value for c in cells]
        ends = [(t.x[0] - t.error_x.arrayminus[0], t.x[0] + t.error_x.array[0]) for t in dots]
        np.testing.assert_allclose(ends, [(c.low, c.high) for c in cells], atol=1e-12)
        area, line = (s for s in fig.layout.shapes if s.xref == panel)
        reference = table.reference[name]
        assert reference.band is not None and line.x0 == line.x1 == reference.mean
        # As far as the score can reach.
        assert (area.x0, area.x1) == reference.band.within(spans[name])
    assert not any(t.showlegend for t in fig.data)


def test_no_score_is_no_figure() -> None:
    empty = [made("m", "original", [score("da", None)])]
    assert not figures.has_scores(empty)
    with pytest.raises(RecordError, match="score with a value"):
        figures.scores_figure(empty)


def test_a_trace_shows_what_was_measured_after_each_epoch() -> None:
    rows = [
        {"phase": "a", "loss": 3.0, "da": 0.5, "forget_accuracy": 1.0, "retain_accuracy": 0.9},
        {"phase": "b", "loss": 2.0, "forget_accuracy": 0.4, "retain_accuracy": 0.8, "da": None},
        {"phase": "a", "loss": 1.0, "da": 0.7, "forget_accuracy": 0.1, "retain_accuracy": 0.7},
    ]
    old = [{"phase": "a", "loss": 5.0}, {"phase": "a", "loss": 4.0}]
    fig = figures.trace_figure(
        [made(n, "unlearned", [], series={"trace": t}) for n, t in (("new", rows), ("old", old))]
    )
    titles = ("loss: a", "loss: b", "DA", "forget accuracy", "retain accuracy")
    assert [a.text for a in fig.layout.annotations] == [f"<b>{t}</b>" for t in titles]
    assert [(t.name, t.xaxis, list(t.x), list(t.y)) for t in fig.data] == [
        ("new", "x", [1, 3], [3.0, 1.0]),
        ("old", "x", [1, 2], [5.0, 4.0]),
        ("new", "x2", [2], [2.0]),
        ("new", "x3", [1, 3], [0.5, 0.7]),
        ("new", "x4", [1, 2, 3], [1.0, 0.4, 0.1]),
        ("new", "x5", [1, 2, 3], [0.9, 0.8, 0.7]),
    ]
    assert [bool(t.showlegend) for t in fig.data] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("draw", "name", "bad", "words"),
    [
        (figures.da_figure, "da_curve", {"k": [1, 2], "frobenius_none": [0.5]}, "1 .* 2 are due"),
        (figures.da_figure, "da_curve", {"k": [1], "frobenius_none": [None]}, "finite number"),
        (
            figures.da_figure,
            "da_curve",
            {"k": [1], "frobenius_none": [0.5], "headline_k": 0},
            "from 1 as headline_k",
        ),
        (figures.da_figure, "da_curve", {"k": [1], "other": [0.5]}, "frobenius_none"),
        (figures.maps_figure, "pca", {"x": [1.0]}, "'explained'"),
        (figures.spectra_figure, "spectrum", [1.0], "an object"),
        (figures.trace_figure, "trace", [{"phase": "a"}], "loss"),
        (figures.trace_figure, "trace", [{"loss": 1.0, "da": "high"}], "'da'"),
    ],
)
def test_malformed_series_are_named(draw: Any, name: str, bad: Any, words: str) -> None:
    with pytest.raises(RecordError, match=f"'muda': series {name} .*{words}"):
        draw([made("muda", "unlearned", [], series={name: bad})])
    with pytest.raises(RecordError, match=f"'{name}'"):
        draw([made("muda", "unlearned", [], series={name: []})])
