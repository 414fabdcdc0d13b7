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
    (drawn,) = fig.data
    models = [r.name for r in records]
    assert [list(line) for line in drawn.z] == [
        *2 * [[None, 0, 0, 0, 0, None, None, None]],
        [style.band_step(u) if (u := cell(records, m).units) is not None else None for m in models],
    ]
    assert (
        drawn.text[2][5] == table.in_units(cell(records, "x").units or 0.0)
        and drawn.text[2][-1] == ""
    )
    assert list(drawn.customdata[2][5]) == ["x, s: 0.700", "residual"]
    # By groups: outputs, what is kept, others.
    assert list(fig.layout.yaxis.ticktext) == [
        "test forget accuracy",
        "retain accuracy",
        "s",
    ] and list(fig.layout.yaxis.tickvals) == [0, 1, 2]
    # Two long names stay two columns and can be told apart.
    assert (
        list(fig.layout.xaxis.tickvals) == list(range(8))
        and len(set(fig.layout.xaxis.ticktext)) == 8
    )
    few = band_figures.bands_figure([r for r in records if r.name != "o4"])
    assert list(few.layout.xaxis.tickvals) == list(range(4)), "three are not held out in turn"
    by_edge = dict(drawn.colorscale)
    assert (
        by_edge[0.0] == style.BELOW[-1]
        and by_edge[1.0] == style.ABOVE[-1]
        and (drawn.zmin, drawn.zmax) == (-4.5, 4.5)
    )
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
    titles = [a.text for a in fig.layout.annotations]
    # By number; 0 forget samples are the retain set alone.
    assert len(titles) == 4 and "retain" in titles[0]
    assert all(budget in t for budget, t in zip(("10", "100", "all"), titles[1:], strict=True))
    panels = {"x": "0", "x2": "10", "x3": "100", "x4": "all"}
    drawn = [(t.name, panels[t.xaxis], list(t.y)) for t in fig.data]
    assert sorted(drawn) == sorted((n, b, y) for n, c in given.items() for b, y in c.items())
    assert all(list(t.x) == [0, 4] for t in fig.data) and sorted(
        t.name for t in fig.data if t.showlegend
    ) == ["a", "b"]


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
    drawn = [(t.name, t.xaxis, list(t.x), list(t.y)) for t in fig.data]
    assert drawn == [
        ("m", "x", [0, 1, 2], [0.1, 0.2, 0.5]),
        ("n", "x", [0, 1, 2], [0.3, None, None]),
        ("m", "x2", [0, 1, 2], [0.7, None, None]),
    ]
    assert (
        list(fig.layout.xaxis.ticktext)
        == list(fig.layout.xaxis2.ticktext)
        == ["1", "2020-01-01", "head's input"]
    )
    assert fig.layout.xaxis2.gridcolor == fig.layout.yaxis2.gridcolor == style.GRID_LINES and [
        bool(t.showlegend) for t in fig.data
    ] == [1, 1, 0]
    assert band_figures.has_layers(records) and not band_figures.has_layers(records[2:])
    with pytest.raises(RecordError, match="no record has scores at further layers"):
        band_figures.layers_figure(records[2:])


def test_classes_are_cells_and_an_absent_class_is_none() -> None:
    first, second = {"label": [0, 1], "test": [0.5, None]}, {"label": [1, "cat"], "test": [0.25, 1]}
    fig = band_figures.classes_figure(
        [member("m", "original", per_class=first), member("n", "unlearned", per_class=second)]
    )
    assert [list(line) for line in fig.data[0].z] == [[0.5, None], [None, 0.25], [None, 1]]
    assert list(fig.layout.yaxis.ticktext) == ["class 0", "class 1", "class cat"] and list(
        fig.layout.xaxis.ticktext
    ) == ["m", "n"]
    many = {"label": list(range(100)), "test": [0.5] * 100}
    tall = band_figures.classes_figure([member("m", "original", per_class=many)])
    assert (
        list(tall.layout.yaxis.ticktext) == [f"class {i}" for i in range(0, 100, 2)]
        and tall.data[0].texttemplate == ""
    )


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
