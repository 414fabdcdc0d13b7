"""Figures of scores, alignment, features and training, against the numbers of their records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import overview as figures
from eigenforget.report.table import build
from tests.report_toys import ROLES, SCORES, made, score, whole


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return whole()


def series(records: list[RunRecord], name: str) -> list[Any]:
    return [r.series[name] for r in records]


def test_da_curves_are_one_line_per_model_with_its_numbers(records: list[RunRecord]) -> None:
    fig, curves = figures.da_figure(records), series(records, "da_curve")
    assert list(fig.choices) == ["Frobenius, raw", "energy, centred"]
    assert [plot.choice for plot in fig.plots] == [0, 1]
    for plot, form in zip(fig.plots, ("frobenius_none", "energy_each"), strict=True):
        assert [t.name for t in plot.traces] == list(ROLES)
        assert [list(t.x) for t in plot.traces] == [c["k"] for c in curves]
        assert [list(t.y) for t in plot.traces] == [c[form] for c in curves]
        assert [(s.x, s.text) for s in plot.shapes] == [((9, 9), "k = 9")] and plot.x.log


def test_spectra_are_logarithmic_and_leave_zeros_out(records: list[RunRecord]) -> None:
    given = {"retain": [0.75, 0.25, 0.0], "forget": [0.9, 0.1]}
    fig = figures.spectra_figure([replace(records[0], series={"spectrum": given})])
    assert all(plot.y.log for plot in fig.plots)
    drawn = [[(list(t.x), list(t.y)) for t in plot.traces] for plot in fig.plots]
    assert drawn == [[([1, 2], [0.75, 0.25])], [([1, 2], [0.9, 0.1])]]


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
        dots = fig.plots[i].traces
        cells = [row.cells[name] for row in table.rows]
        assert [t.x[0] for t in dots] == [c.value for c in cells]
        assert [(t.low[0], t.high[0]) for t in dots] == [(c.low, c.high) for c in cells]
        area, line = fig.plots[i].shapes
        oracles = table.oracles[name]
        assert oracles.band is not None and line.x == (oracles.mean, oracles.mean)
        # As far as the score can reach.
        assert area.x == oracles.band.within(spans[name])
        assert not any(t.listed for t in dots)


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
    assert [plot.title for plot in fig.plots] == list(titles)
    assert [[(t.name, list(t.x), list(t.y)) for t in plot.traces] for plot in fig.plots] == [
        [("new", [1, 3], [3.0, 1.0]), ("old", [1, 2], [5.0, 4.0])],
        [("new", [2], [2.0])],
        [("new", [1, 3], [0.5, 0.7])],
        [("new", [1, 2, 3], [1.0, 0.4, 0.1])],
        [("new", [1, 2, 3], [0.9, 0.8, 0.7])],
    ]
    models = [
        made(n, "unlearned", [], series={"trace": t}) for n, t in (("new", rows), ("old", old))
    ]
    assert (
        "old trained for the fewest epochs (2) and new for the most (3)"
        in figures.trace_reading(models)
    )


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
