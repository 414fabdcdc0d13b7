"""Panels that fold on narrow screens and on paper, and heat maps that scroll."""

from __future__ import annotations

import pytest

from eigenforget.report.figures.panels import PAPER, Panels, heat_cells, heat_map


def grid(total: int, *, height: int = 200, entries: int = 0, columns: int = 3) -> Panels:
    panels = Panels([f"panel {i}" for i in range(total)], height=height, columns=columns)
    for i in range(total):
        for j in range(entries):
            panels.add(i, f"model {j}", x=[0], y=[j])
    return panels


@pytest.mark.parametrize(("screen", "columns"), [("narrow", 1), ("medium", 2), ("wide", 3)])
@pytest.mark.parametrize("total", [3, 7])
def test_folded_panels_do_not_overlap(screen: str, columns: int, total: int) -> None:
    changes = grid(total).figure().layout.meta[screen]
    boxes = [
        (changes[f"xaxis{n}.domain"], changes[f"yaxis{n}.domain"])
        for n in ("", *range(2, total + 1))
    ]
    assert len({tuple(x) for x, _ in boxes}) == columns
    for i, (x, y) in enumerate(boxes):
        assert 0 <= x[0] < x[1] <= 1 and 0 <= y[0] < y[1] <= 1
        for left, down in boxes[:i]:
            assert x[0] >= left[1] or left[0] >= x[1] or y[1] <= down[0] or down[1] <= y[0]


@pytest.mark.parametrize("screen", ["wide", "medium", "narrow"])
def test_a_panel_keeps_its_height_on_every_screen(screen: str) -> None:
    changes = grid(5, entries=4).figure().layout.meta[screen]
    inner = changes["height"] - changes["margin.t"] - changes["margin.b"]
    for n in ("", 2, 3, 4, 5):
        low, high = changes[f"yaxis{n}.domain"]
        assert (high - low) * inner == pytest.approx(200)


@pytest.mark.parametrize("total", [1, 2, 9, 12])
def test_paper_has_room_for_every_figure(total: int) -> None:
    figure = grid(total, height=300, entries=9).figure()
    assert figure.layout.meta["paper"]["height"] <= PAPER
    assert figure.layout.height == figure.layout.meta["wide"]["height"]


def test_titles_and_traces_are_in_their_panels() -> None:
    figure = grid(4, entries=2).figure()
    assert [a.text for a in figure.layout.annotations] == [f"<b>panel {i}</b>" for i in range(4)]
    assert [a.xref for a in figure.layout.annotations] == [
        "x domain",
        "x2 domain",
        "x3 domain",
        "x4 domain",
    ]
    assert [t.xaxis for t in figure.data] == ["x", "x", "x2", "x2", "x3", "x3", "x4", "x4"]
    assert [bool(t.showlegend) for t in figure.data] == [True, True] + 6 * [False]


def test_each_choice_shows_its_own_traces_and_legend() -> None:
    panels = Panels(["a", "b"], height=100, columns=2, choices={"one": "First", "two": "Second"})
    for choice in ("one", "two"):
        for i in range(2):
            panels.add(i, "model", choice=choice, x=[0], y=[0])
    figure = panels.figure()
    assert [t.visible for t in figure.data] == [True, True, False, False]
    assert [bool(t.showlegend) for t in figure.data] == [True, False, True, False]
    assert figure.layout.meta["choices"] == [
        {"label": "First", "visible": [True, True, False, False]},
        {"label": "Second", "visible": [False, False, True, True]},
    ]


def test_a_heat_map_is_wide_enough_for_its_numbers() -> None:
    few, many = (
        heat_map(heat_cells([[0.0] * n], (0, 1)), [str(i) for i in range(n)], ["line"]).layout
        for n in (4, 33)
    )
    assert many.meta["least_width"] - few.meta["least_width"] >= 29 * 40
    assert few.height == few.meta["wide"]["height"] and list(few.xaxis.tickvals) == [0, 1, 2, 3]
    tall = heat_map(heat_cells([[0.0]] * 100, (0, 1)), ["m"], [str(i) for i in range(100)])
    assert tall.layout.meta["paper"]["height"] == PAPER < tall.layout.height
