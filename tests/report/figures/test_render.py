"""Figures as SVG and HTML: places, thinned lines, escaping, and values that the script reads back."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from eigenforget.report.figures.drawing import Axis, Figure, HeatMap, Plot, PlotShape, PlotTrace
from eigenforget.report.figures.render import WIDTH, rendered
from eigenforget.report.figures.style import HINT, ORIGINAL, RETRAINED, RETRAINED_RANGE, Style

BAD = "<b>&\"'"
LINE, MARKS = ORIGINAL.line(), ORIGINAL.marks(8)


def plot_of(*traces: PlotTrace, x: Axis | None = None, y: Axis | None = None) -> Plot:
    return Plot("plot", 200, x=x or Axis(), y=y or Axis(), traces=list(traces))


def drawn(plot: Plot) -> ElementTree.Element:
    text = str(rendered(Figure([plot], 1), "alt"))
    return ElementTree.fromstring(
        text[text.index('<svg viewBox="0 0 400') : text.index("</svg>") + 6]
    )


def vertices(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def read_back(svg: ElementTree.Element) -> list[tuple[float, float]]:
    """The values of the first trace, as the page's script reads them."""
    scales = json.loads(svg.attrib["data-scales"])
    trace = next(g for g in svg.iter("g") if "data-name" in g.attrib)
    places = vertices(next(trace.iter("path")).attrib["d"])

    def value(place: float, scale: list[Any]) -> float:
        _, _, log, low, high, start, end = scale
        found = low + (place - start) / (end - start) * (high - low)
        return float(10**found) if log else float(found)

    return [(value(x, scales[0]), value(y, scales[1])) for x, y in places]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("style", [LINE, MARKS, ORIGINAL.both(), Style("#123456", "circle")])
def test_values_can_be_read_back_from_places(log: bool, style: Style) -> None:
    x, y = [1.0, 2.0, 7.0, 30.0], [0.9, 0.1, 0.5, 0.30]
    svg = drawn(plot_of(PlotTrace("m", x, y, style), x=Axis(log=log), y=Axis(range=(1.0, 0.0))))
    np.testing.assert_allclose(read_back(svg)[:4], list(zip(x, y, strict=True)), rtol=5e-3)


@pytest.mark.parametrize("bars", ["x", "y"])
def test_everything_lies_inside_the_drawing(bars: str) -> None:
    trace = PlotTrace(
        "m", [0.0, 1.0], [3.0, 1e6], ORIGINAL.both(), low=[-1.0, 0.0], high=[4.0, 2e6], bars=bars
    )
    plot = plot_of(trace, x=Axis("across"), y=Axis("up"))
    plot.shapes.append(PlotShape((-5.0, 0.5), (None, None), RETRAINED_RANGE, "range"))
    svg = drawn(plot)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    assert width == WIDTH
    for path in svg.iter("path"):
        for x, y in vertices(path.attrib["d"]):
            assert 0 <= x <= width and 0 <= y <= height
        for x in map(float, re.findall(r"H(-?[\d.]+)", path.attrib["d"])):
            assert 0 <= x <= width
        for y in map(float, re.findall(r"V(-?[\d.]+)", path.attrib["d"])):
            assert 0 <= y <= height
    for text in svg.iter("text"):
        assert 0 <= float(text.attrib["x"]) <= width and 0 < float(text.attrib["y"]) <= height


def test_a_missing_value_breaks_the_line() -> None:
    svg = drawn(plot_of(PlotTrace("m", [0, 1, 2, 3, 4], [0, 1, None, 2, math.nan], LINE)))
    trace = next(g for g in svg.iter("g") if "data-name" in g.attrib)
    assert re.sub(r"[^ML]", "", next(trace.iter("path")).attrib["d"]) == "MLM"


def test_a_thinned_line_strays_by_less_than_a_screen_shows() -> None:
    x = np.arange(2000.0)
    y = np.tanh(x / 300)
    svg = drawn(plot_of(PlotTrace("m", x.tolist(), y.tolist(), LINE), y=Axis(range=(0.0, 1.0))))
    found = np.array(read_back(svg))
    assert 10 < len(found) < 60
    # A unit of the 200 that the plot is high.
    np.testing.assert_allclose(np.interp(x, *found.T), y, atol=1 / 200)


def test_a_thinned_line_keeps_its_peaks() -> None:
    y = np.zeros(500)
    y[[77, 300]] = 1.0, -1.0
    svg = drawn(plot_of(PlotTrace("m", list(range(500)), y.tolist(), LINE)))
    found = np.array(read_back(svg))
    assert found[:, 1].max() == pytest.approx(1, abs=0.01)
    assert found[:, 1].min() == pytest.approx(-1, abs=0.01) and len(found) < 12


def test_steps_hold_their_value_and_areas_close() -> None:
    steps = drawn(plot_of(PlotTrace("m", [0, 1, 2], [0, 1, 0], LINE, kind="steps")))
    trace = next(g for g in steps.iter("g") if "data-name" in g.attrib)
    assert len(vertices(next(trace.iter("path")).attrib["d"])) == 5
    closed = PlotTrace("m", [0, 1, 1], [0, 0, 1], RETRAINED_RANGE, kind="area")
    area = str(rendered(Figure([plot_of(closed)], 1), "alt"))
    assert re.search(r'<path fill="#009E73" opacity="0.18" d="M[^"]*z"/>', area)


def test_all_texts_are_escaped_and_each_name_is_listed_once() -> None:
    trace = PlotTrace(BAD, [0.0], [1.0], MARKS, texts=[BAD], labels=[BAD])
    other = PlotTrace("other", [0.0], [1.0], RETRAINED, listed=False)
    axis = Axis(BAD, ticks={0.0: BAD}, tilted=True, reads=BAD)
    plot = Plot(
        BAD, 100, 0, axis, axis, [trace, trace, other], [PlotShape((0, 0), (None, None), HINT, BAD)]
    )
    text = str(rendered(Figure([plot, plot], 2, [BAD, "b"]), "alt"))
    assert "<b>" not in text and text.count("<li") == 1
    svg = ElementTree.fromstring(f"<div>{text}</div>")
    told = json.loads(
        next(g.attrib["data-texts"] for g in svg.iter("g") if "data-texts" in g.attrib)
    )
    assert told == [BAD]
    heat = str(rendered(HeatMap([BAD], [BAD], [[BAD]], [[0]], "band"), "alt"))
    assert "<b>" not in heat and html.escape(BAD, quote=False)[:3] in heat


def test_only_the_first_choice_is_seen_without_the_script() -> None:
    plots = [Plot("a", 100, choice) for choice in (0, 1, 2)] + [Plot("all", 100)]
    text = str(rendered(Figure(plots, 2, ["x", "y", "z"]), "alt"))
    assert re.findall(r'<div class="plot"([^>]*)>', text) == [
        ' data-choice="0"',
        ' data-choice="1" hidden',
        ' data-choice="2" hidden',
        "",
    ]
    always, own = PlotTrace("always", [0.0], [1.0], MARKS), PlotTrace("own", [0.0], [1.0], MARKS)
    plots = [Plot("a", 100, 0, traces=[always]), Plot("a", 100, 1, traces=[always, own])]
    legend = str(rendered(Figure(plots, 1, ["x", "y"]), "alt")).split('class="legend"')[1]
    assert re.findall("<li([^>]*)>", legend) == ["", ' data-choice="1" hidden']
