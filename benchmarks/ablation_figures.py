"""SVG for ablations: small multiples of dots along a line or of maps, one for each score, with the
retrained models' band and the original.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from eigenforget.report.figures.style import band_colour

BESIDE, WIDE, GAP, LINE, TOP, INNER, PER_LINE = 196, 134, 6, 20, 62, 8, 5
"""Pixels: for the labels of the rows, a panel, between panels, a row, above the panels, at both
ends of an axis; and panels side by side.
"""
BAND, EDGE, DOT, ORIGINAL, INK = "#cfe3f5", "#7fa8cf", "#1b4f8a", "#b35806", "#111111"


class Panel(NamedTuple):
    """A score: its name, the ends of the retrained models' band, the original's value, and how a
    value is spelled.
    """

    title: str
    band: tuple[float, float] | None
    original: float | None
    spell: Callable[[float], str]


class Spot(NamedTuple):
    """A cell of a map: its value, and the gap that colours it in half-widths of the band (None: no
    colour).
    """

    value: float
    units: float | None


def strips(
    title: str, panels: Sequence[Panel], lines: Sequence[tuple[str, Sequence[Sequence[float]]]]
) -> str:
    """A row for each line: its label, and for each panel its values, a ring for each and a dot for
    the mean of several.
    """
    tall = 24 + LINE * len(lines) + 34
    parts = _legend()
    for index, panel in enumerate(panels):
        x, y = _corner(index, tall)
        if index % PER_LINE == 0:
            parts += [
                _text(BESIDE - 10, y + 24 + LINE * (j + 0.5) + 4, name, anchor="end")
                for j, (name, _) in enumerate(lines)
            ]
        parts += _strip(panel, [values[index] for _, values in lines], x, y)
    return _page(title, parts, len(panels), tall)


def axis(panel: Panel, rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """From where to where a panel reaches: all values, the band and the original."""
    known = (
        [v for values in rows for v in values]
        + list(panel.band or ())
        + ([] if panel.original is None else [panel.original])
    )
    low, high = min(known, default=0.0), max(known, default=0.0)
    return (low, high) if low < high else (low - 0.01, high + 0.01)


def _strip(panel: Panel, rows: Sequence[Sequence[float]], x: float, y: float) -> list[str]:
    low, high = axis(panel, rows)

    def at(value: float) -> float:
        return x + INNER + (WIDE - 2 * INNER) * (value - low) / (high - low)

    above, below = y + 24, y + 24 + LINE * len(rows)
    parts = [_text(x + WIDE / 2, y + 14, panel.title, anchor="middle")]
    if panel.band:
        left, right = map(at, panel.band)
        parts.append(_box(left, above, max(right - left, 1.5), below - above, BAND, EDGE))
    parts.append(
        f'<rect x="{x:g}" y="{above:g}" width="{WIDE}" height="{below - above:g}" fill="none" stroke="#999999"/>'
    )
    if panel.original is not None:
        parts.append(_dashes(at(panel.original), above, below))
    for j, values in enumerate(rows):
        middle = above + LINE * (j + 0.5)
        parts.append(
            f'<line x1="{x:g}" x2="{x + WIDE:g}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="#e4e4e4"/>'
        )
        parts += [_ring(at(v), middle) for v in values] if len(values) > 1 else []
        parts += (
            [_dot(at(statistics.fmean(values)), middle)]
            if values
            else [_text(x + 4, middle + 4, "no result")]
        )
    ends = [
        _text(x + 3, below + 14, panel.spell(low), size=11),
        _text(x + WIDE - 3, below + 14, panel.spell(high), anchor="end", size=11),
    ]
    return [*parts, *ends]


def maps(
    title: str,
    panels: Sequence[Panel],
    places: Mapping[tuple[str, str], Sequence[Spot | None]],
    *,
    across: str,
) -> str:
    """For each panel a map of the places (row, column), coloured by the gap; a dark frame is around
    what lies in the band.
    """
    rows, columns = (list(dict.fromkeys(place[i] for place in places)) for i in (0, 1))
    tall = 72 + LINE * len(rows) + 22
    parts = [
        _text(
            8,
            44,
            f"Columns: {across}. Green with a dark frame: in the band; orange above it, purple below, darker with distance.",
        )
    ]
    for index, panel in enumerate(panels):
        x, y = _corner(index, tall)
        if index % PER_LINE == 0:
            parts += [
                _text(BESIDE - 10, y + 72 + LINE * (j + 0.5) + 4, name, anchor="end")
                for j, name in enumerate(rows)
            ]
        parts += [
            _text(x + WIDE / 2, y + 14 + 15 * i, words, anchor="middle")
            for i, words in enumerate(_heading(panel))
        ]
        wide = WIDE / len(columns)
        parts += [
            _text(x + wide * (i + 0.5), y + 66, name, anchor="middle", size=11)
            for i, name in enumerate(columns)
        ]
        for (row, column), spots in places.items():
            if (spot := spots[index]) is not None:
                parts.append(
                    _spot(
                        panel,
                        spot,
                        x + wide * columns.index(column),
                        y + 72 + LINE * rows.index(row),
                        wide,
                    )
                )
    return _page(title, parts, len(panels), tall)


def _heading(panel: Panel) -> list[str]:
    band = f"band {panel.spell(panel.band[0])}–{panel.spell(panel.band[1])}" if panel.band else ""
    return [
        panel.title,
        band,
        f"original {panel.spell(panel.original)}" if panel.original is not None else "",
    ]


def _spot(panel: Panel, spot: Spot, x: float, y: float, wide: float) -> str:
    fill, edge = (
        ("#f4f4f4", "none")
        if spot.units is None
        else (band_colour(spot.units), INK if abs(spot.units) <= 1 + 1e-9 else "none")
    )
    words = panel.spell(spot.value).replace(" ", "")
    return _box(x + 1.5, y + 1.5, wide - 3, LINE - 3, fill, edge) + _text(
        x + wide / 2, y + 14, words, anchor="middle", size=11
    )


def _legend() -> list[str]:
    parts = [
        _box(8, 34, 18, 12, BAND, EDGE),
        _text(31, 44, "band of the retrained models"),
        _dashes(226, 33, 47),
        _text(234, 44, "original"),
    ]
    return [
        *parts,
        _ring(308, 40),
        _text(317, 44, "one training seed"),
        _dot(442, 40),
        _text(452, 44, "mean"),
    ]


def _corner(index: int, tall: float) -> tuple[float, float]:
    return BESIDE + (WIDE + GAP) * (index % PER_LINE), TOP + tall * (index // PER_LINE)


def _page(title: str, parts: Sequence[str], panels: int, tall: float) -> str:
    width, height = BESIDE + (WIDE + GAP) * PER_LINE + 4, TOP + tall * -(-panels // PER_LINE)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" viewBox="0 0 {width} {height:g}" '
        'font-family="sans-serif" font-size="12" role="img">'
    )
    first = [
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height:g}" fill="#ffffff"/>',
    ]
    return "\n".join([head, *first, _text(8, 20, title, size=14), *parts, "</svg>", ""])


def _text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(content)}</text>'


def _box(x: float, y: float, width: float, height: float, fill: str, edge: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{edge}"/>'


def _dashes(x: float, above: float, below: float) -> str:
    ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{above:.1f}" y2="{below:.1f}"'
    return f'<line {ends} stroke="{ORIGINAL}" stroke-width="2" stroke-dasharray="5 3"/>'


def _ring(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="none" stroke="{DOT}"/>'


def _dot(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{DOT}" fill-opacity="0.85"/>'
