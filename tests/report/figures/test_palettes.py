"""Colours of cells, and the rules that paint them."""

from __future__ import annotations

import re

from eigenforget.report.figures.drawing import HeatMap
from eigenforget.report.figures.palettes import PALETTES, palette_css, shade_step
from eigenforget.report.figures.render import rendered


def test_cells_of_heat_maps_have_the_rule_of_their_palette() -> None:
    css = palette_css()
    for name, colours in PALETTES.items():
        for step, colour in colours.items():
            cell = re.search(
                r"<td class=(\w+)>",
                str(rendered(HeatMap(["c"], ["l"], [["1"]], [[step]], name), "alt")),
            )
            assert cell and f".{name} .{cell[1]} {{ background: {colour};" in css
    assert shade_step(None) is None and shade_step(1.7) == 10 and shade_step(-0.26) == -3
    empty = str(rendered(HeatMap(["c"], ["l"], [[""]], [[None]], "green"), "alt"))
    assert "<td></td></tr>\n</tbody>" in empty
