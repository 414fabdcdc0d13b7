"""Heat map of bands, relearning, layers and classes, by hand calculation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report import table
from eigenforget.report.figures import band_figures, style
from tests.report.band_toys import family, member, row


def cell(records: list[RunRecord], model: str, name: str = "s") -> table.Cell:
    return next(r for r in table.build(records).rows if r.model == model).cells[name]


def test_the_heat_map_holds_a_cell_per_band() -> None:
    long = "a_name_that_is_far_too_long_for_a_column_and_ends_in_"
    records = [
        *family(0.7),
        member(long + "1", "unlearned", row("s", 0.1)),
        member(long + "2", "control", row("s", None), row("p", 0.5)),
    ]
    further = (row("retain_accuracy", 0.9), row("test_forget_accuracy", 0.0), row("s@b", 0.5))
    records.insert(4, member("o4", "oracle", row("s", 0.52)))
    records[1:5] = [replace(r, scores=(*r.scores, *further)) for r in records[1:5]]
    fig = band_figures.bands_figure(records)
    models = [r.name for r in records]
    assert [list(line) for line in fig.steps] == [
        *2 * [[None, 0, 0, 0, 0, None, None, None]],
        [style.band_step(u) if (u := cell(records, m).units) is not None else None for m in models],
    ]
    assert fig.texts[2][5] == table.in_units(cell(records, "x").units or 0.0)
    assert fig.texts[2][-1] == "" and fig.palette == "band"
    # By groups: outputs, what is kept, others.
    assert list(fig.rows) == ["test forget accuracy", "retain accuracy", "s"]
    # Two long names stay two columns and can be told apart.
    assert len(set(fig.columns)) == len(fig.columns) == 8
    few = band_figures.bands_figure([r for r in records if r.name != "o4"])
    assert len(few.columns) == 4, "three are not held out in turn"
    with pytest.raises(RecordError, match="two or three retrained models"):
        band_figures.bands_figure(family(0.7, 1))


def test_relearning_draws_every_curve_and_lists_each_model_once() -> None:
    given = {
        "a": {"100": [0.0, 0.5], "10": [0.1, 0.2]},
        "b": {"all": [0.3, 0.9], "0": [0.0, 0.1], "10": [0.0, 0.3]},
    }
    fig = band_figures.relearning_figure(
        [
            member(n, "unlearned", relearning={"steps": [0, 4], "curves": c})
            for n, c in given.items()
        ]
    )
    titles = [plot.title for plot in fig.plots]
    # By number; 0 forget samples are the retain set alone.
    assert len(titles) == 4 and "retain" in titles[0]
    assert all(budget in t for budget, t in zip(("10", "100", "all"), titles[1:], strict=True))
    budgets = ("0", "10", "100", "all")
    drawn = [
        (t.name, budget, list(t.y))
        for budget, plot in zip(budgets, fig.plots, strict=True)
        for t in plot.traces
    ]
    assert sorted(drawn) == sorted((n, b, y) for n, c in given.items() for b, y in c.items())
    assert all(list(t.x) == [0, 4] for plot in fig.plots for t in plot.traces)


def test_the_sentence_on_relearning_is_of_the_most_samples() -> None:
    curves = {"10": [0.0, 0.25], "all": [0.5, 0.75]}
    records = [member("a", "unlearned", relearning={"steps": [0, 4], "curves": curves})]
    assert "0.750 in a" in band_figures.relearning_reading(records)


def test_the_sentence_on_bands_counts_what_is_inside() -> None:
    records = [*family(0.52), member("far", "unlearned", row("s", 0.9))]
    said = band_figures.bands_reading(records)
    assert "x (1 of 1)" in said and "far (0 of 1)" in said


def test_layers_are_lines_from_the_first_to_the_heads_input() -> None:
    records = [
        member(
            "m",
            "unlearned",
            row("da", 0.5),
            row("da@1", 0.1),
            row("da@2020-01-01", 0.2),
            row("nmi@1", 0.7),
        ),
        member(
            "n", "unlearned", row("da@1", 0.3), row("da@2020-01-01", None), row("lp_forget", 0.4)
        ),
        member("none", "unlearned", row("lp_forget", 0.4)),
    ]
    fig = band_figures.layers_figure(records)
    drawn = [(t.name, i, list(t.x), list(t.y)) for i, p in enumerate(fig.plots) for t in p.traces]
    assert drawn == [
        ("m", 0, [0, 1, 2], [0.1, 0.2, 0.5]),
        ("n", 0, [0, 1, 2], [0.3, None, None]),
        ("m", 1, [0, 1, 2], [0.7, None, None]),
    ]
    for plot in fig.plots:
        assert plot.x.ticks == {0: "1", 1: "2020-01-01", 2: "head's input"}
    assert band_figures.has_layers(records) and not band_figures.has_layers(records[2:])
    with pytest.raises(RecordError, match="no record has scores at further layers"):
        band_figures.layers_figure(records[2:])


def test_classes_are_cells_and_an_absent_class_is_none() -> None:
    first, second = {"label": [0, 1], "test": [0.5, None]}, {"label": [1, "cat"], "test": [0.25, 1]}
    fig = band_figures.classes_figure(
        [member("m", "original", per_class=first), member("n", "unlearned", per_class=second)]
    )
    assert [list(line) for line in fig.texts] == [["0.50", ""], ["", "0.25"], ["", "1.00"]]
    assert [list(line) for line in fig.steps] == [[5, None], [None, 2], [None, 10]]
    assert list(fig.rows) == ["class 0", "class 1", "class cat"]
    assert list(fig.columns) == ["m", "n"]


def test_the_sentence_on_classes_names_the_largest_loss() -> None:
    def one(name: str, role: str, *values: float | None) -> RunRecord:
        return member(name, role, per_class={"label": [0, 1], "test": list(values)})

    oracles = [one("o1", "oracle", 0.8, 0.9), one("o2", "oracle", 0.6, None)]
    said = band_figures.classes_reading([*oracles, one("m", "unlearned", 0.65, 0.5)])
    assert "m " in said and "class 1" in said and "0.400" in said
    assert "No unlearned model" in band_figures.classes_reading(
        [*oracles, one("m", "unlearned", 1, 1)]
    )
    assert band_figures.classes_reading(oracles) == ""


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("relearning", [1], "must be an object"),
        ("relearning", {"steps": [0, 1], "curves": []}, "needs an object 'curves'"),
        ("relearning", {"steps": [0, 1], "curves": {}}, "needs an object 'curves'"),
        (
            "relearning",
            {"steps": [0, 1], "curves": {"10": [0.5]}},
            "has 1 values in '10' where 2 are due",
        ),
        (
            "relearning",
            {"steps": [0, math.inf], "curves": {"10": [0.5, 0.5]}},
            "has a value in 'steps' that is not a finite number",
        ),
        ("relearning", {"curves": {"10": [0.5]}}, "needs a list 'steps'"),
        ("per_class", {"label": [0, 1], "test": [0.5]}, "has 1 values in 'test' where 2 are due"),
        (
            "per_class",
            {"label": [0], "test": ["much"]},
            "has a value in 'test' that is neither a finite number nor null",
        ),
        ("per_class", {"test": [0.5]}, "needs a list 'label'"),
    ],
)
def test_malformed_series_are_named(name: str, bad: Any, words: str) -> None:
    make = {"relearning": band_figures.relearning_figure, "per_class": band_figures.classes_figure}[
        name
    ]
    with pytest.raises(RecordError, match=f"record 'muda': series {name} {words}"):
        make([member("muda", "unlearned", **{name: bad})])
    with pytest.raises(RecordError, match=f"no record has the series '{name}'"):
        make([member("muda", "unlearned")])
