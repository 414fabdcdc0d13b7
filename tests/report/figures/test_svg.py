"""A heat map as a plain SVG file."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from eigenforget.report.figures.style import INK, VERMILLION, band_colour
from eigenforget.report.figures.svg import Bar, Line, Shade, band_strip, bar_chart, heatmap

SVG = "{http://www.w3.org/2000/svg}"
BAD = "<b>&\"'"


def test_cells_have_the_colour_of_their_gap_and_their_text() -> None:
    lines = [
        Line("da", [Shade("0.5", 0.2), Shade("0.9", -9.0)], after="2 runs"),
        Line(BAD, [None, Shade(BAD, None)]),
    ]
    root = ElementTree.fromstring(heatmap(BAD, ["one", "two"], lines, after="runs"))
    texts = [t.text for t in root.iter(f"{SVG}text")]
    written = {text for text in texts if text}
    assert written == {BAD, "one", "two", "runs", "da", "0.5", "0.9", "2 runs", "–"}
    fills = [r.attrib["fill"] for r in root.iter(f"{SVG}rect")][1:]
    assert fills == [band_colour(0.2), band_colour(-9.0)]


@pytest.mark.parametrize("columns", [1, 5])
def test_it_is_as_wide_as_its_columns(columns: int) -> None:
    line = Line("line", [Shade("1", 0.0)] * columns)
    root = ElementTree.fromstring(heatmap("t", [str(i) for i in range(columns)], [line]))
    width = float(root.attrib["viewBox"].split()[2])
    boxes = [r.attrib for r in root.iter(f"{SVG}rect") if "x" in r.attrib]
    last = max(float(box["x"]) + float(box["width"]) for box in boxes)
    assert last <= width


@pytest.mark.parametrize("span", [(0.0, 1.0), (None, None), (0.0, None)])
@pytest.mark.parametrize("inside", [True, False])
def test_a_strip_shows_the_score_on_its_range(
    span: tuple[float | None, float | None], inside: bool
) -> None:
    value = 0.5 if inside else 0.9
    root = ElementTree.fromstring(band_strip(value, (0.4, 0.6), span, inside=inside))
    (box,) = root.iter("rect")
    start, width = float(box.attrib["x"]), float(box.attrib["width"])
    mark = list(root.iter("path"))[-1]
    place = float(mark.attrib["d"][1:].split()[0])
    assert (start <= place <= start + width) == inside and 0 <= place <= 100
    assert mark.attrib["stroke"] == (INK if inside else VERMILLION)
    if span == (0.0, 1.0):
        assert place == pytest.approx(2 + 96 * value) and start == pytest.approx(2 + 96 * 0.4)


def test_a_strip_without_a_band_is_a_mark_alone() -> None:
    root = ElementTree.fromstring(band_strip(3.0, None, (0.0, None), inside=False))
    assert not list(root.iter("rect")) and list(root.iter("path"))[-1].attrib["stroke"] == INK


def test_bars_are_as_long_as_their_shares() -> None:
    bars = [Bar(BAD, 0.5, "50%"), Bar("all", 1.0), Bar("cheat", 0.25, muted=True)]
    root = ElementTree.fromstring(bar_chart(BAD, bars))
    boxes = [r.attrib for r in root.iter(f"{SVG}rect")][1:]
    lengths = [float(box["width"]) for box in boxes]
    assert [length / lengths[1] for length in lengths] == [0.5, 1.0, 0.25]
    assert [box["fill"] == "none" for box in boxes] == [False, False, True]
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert all(float(b["x"]) + float(b["width"]) <= width for b in boxes)
    assert all(float(b["y"]) + float(b["height"]) <= height for b in boxes)
    assert {BAD, "50%", "all", "cheat"} <= {t.text for t in root.iter(f"{SVG}text")}
