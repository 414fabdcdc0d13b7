"""Marks: each symbol of the style has a path around its point."""

from __future__ import annotations

import re

import pytest

from eigenforget.report.figures.style import styles
from eigenforget.report.figures.symbols import mark_path
from tests.report_toys import made


@pytest.mark.parametrize("end", ["", "-open"])
@pytest.mark.parametrize(
    "symbol", ["circle", "square", "diamond", "hexagon", "star", "triangle-up", "triangle-down"]
)
def test_marks_are_closed_or_stroked_and_lie_around_their_point(symbol: str, end: str) -> None:
    path, stroked = mark_path(symbol + end, 5.0)
    assert stroked == (end == "-open" or symbol == "circle")
    # Only small letters: the page's script takes a capital for the middle of a mark.
    assert path == path.lower()
    if symbol != "circle":
        x = y = 0.0
        places = []
        for a, b in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path):
            x, y = x + float(a), y + float(b)
            places.append((x, y))
        assert path.endswith("z") and max(map(abs, (v for p in places for v in p))) <= 6.5
        assert abs(sum(p[0] for p in places)) < 1.0 and abs(sum(p[1] for p in places)) < 1.0


def test_every_model_of_a_large_table_has_a_mark() -> None:
    roles = ["original", *["oracle"] * 5, *["unlearned"] * 30, *["control"] * 9]
    looks = styles([made(f"{role} {i}", role, []) for i, role in enumerate(roles)])  # type: ignore[arg-type]
    for look in looks.values():
        assert mark_path(look.symbol, 4.0)[0]
    with pytest.raises(KeyError):
        mark_path("heart", 4.0)
