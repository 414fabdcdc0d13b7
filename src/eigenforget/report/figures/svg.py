"""Small pictures as plain SVG: heat maps and bars for documents, and a score in its band.

Cells are coloured by the gap to the retrained models in half-widths of their band.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from eigenforget.report.figures.style import GREEN, GREY, INK, VERMILLION, band_colour, band_step

_ROW, _CELL, _TOP, _CHARACTER = 22, 86, 58, 6.6
_LENGTH = 320  # of a whole bar


class Shade(NamedTuple):
    """A cell: what it says, and the gap that colours it (None: no colour)."""

    text: str
    units: float | None


class Line(NamedTuple):
    """A row: its label, one cell per column (None where nothing applies), and words after them."""

    label: str
    cells: Sequence[Shade | None]
    after: str = ""


def heatmap(title: str, columns: Sequence[str], lines: Sequence[Line], *, after: str = "") -> str:
    """The SVG text: green in the band, orange above and purple below it.

    Args:
        title: The heading.
        columns: Names above the columns.
        lines: The lines, from the top.
        after: The heading of the words after the lines.
    """
    left = 20 + _CHARACTER * max([len(line.label) for line in lines], default=0)
    right = 16 + _CHARACTER * max([len(after), *(len(line.after) for line in lines)])
    width, height = left + _CELL * len(columns) + right, _TOP + _ROW * len(lines) + 12
    parts = _opened(title, width, height)
    end = left + _CELL * len(columns) + 8
    parts += [
        _text(left + _CELL * (i + 0.5), _TOP - 8, name, anchor="middle")
        for i, name in enumerate(columns)
    ]
    parts.append(_text(end, _TOP - 8, after))
    for j, line in enumerate(lines):
        y = _TOP + _ROW * j
        parts.append(_text(left - 8, y + 15, line.label, anchor="end"))
        parts += [_cell(left + _CELL * i, y, cell) for i, cell in enumerate(line.cells)]
        parts.append(_text(end, y + 15, line.after))
    return "\n".join([*parts, "</svg>", ""])


def band_strip(
    value: float,
    band: tuple[float, float] | None,
    span: tuple[float | None, float | None],
    *,
    inside: bool,
) -> str:
    """A score on its range, with the band of the retrained models: inline SVG, 100 × 12.

    Args:
        value: The score.
        band: The ends of the band; None for none.
        span: The range of the score; an open end follows from value and band.
        inside: Whether the score is in the band; its mark is vermillion where it is not.
    """
    known = [value, *(band or ())]
    low, high = (
        end if end is not None else side(known) for end, side in zip(span, (min, max), strict=True)
    )
    width = (high - low) or 1.0
    places = [2 + 96 * min(max((v - low) / width, 0.0), 1.0) for v in known]
    parts = ['<path d="M2 6H98" stroke="#999999" stroke-width="1" fill="none"/>']
    if band is not None:
        start, end = places[1], max(places[2], places[1] + 1)
        parts.append(f'<rect x="{start:.1f}" y="1" width="{end - start:.1f}" height="10"')
        parts.append(f' fill="{GREEN}" opacity="0.4"/>')
    colour = INK if inside or band is None else VERMILLION
    parts.append(f'<path d="M{places[0]:.1f} 0V12" stroke="{colour}" stroke-width="2"/>')
    box = 'viewBox="0 0 100 12" width="100" height="12"'
    return f'<svg class="strip" {box} aria-hidden="true">{"".join(parts)}</svg>'


def _opened(title: str, width: float, height: float) -> list[str]:
    """The head of a picture: its size, its title, and a white ground."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        ' font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
        f'<text x="8" y="20" font-size="14">{escape(title)}</text>',
    ]


class Bar(NamedTuple):
    """A bar: its label, its length from 0 to 1, words after it; `muted` draws its outline only."""

    label: str
    share: float
    after: str = ""
    muted: bool = False


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """The SVG text of bars on one scale from 0 to 1.

    Args:
        title: The heading.
        bars: The bars, from the top.
    """
    left = 20 + _CHARACTER * max([len(bar.label) for bar in bars], default=0)
    right = 16 + _CHARACTER * max([len(bar.after) for bar in bars], default=0)
    width, height = left + _LENGTH + right, _TOP + _ROW * len(bars)
    parts = _opened(title, width, height)
    for j, bar in enumerate(bars):
        y, length = _TOP - 12 + _ROW * j, _LENGTH * min(max(bar.share, 0.0), 1.0)
        paint = f'fill="none" stroke="{GREY}"' if bar.muted else f'fill="{GREEN}"'
        parts.append(_text(left - 8, y + 15, bar.label, anchor="end"))
        parts.append(
            f'<rect x="{left:g}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 6}" {paint}/>'
        )
        parts.append(_text(left + length + 6, y + 15, bar.after))
    return "\n".join([*parts, "</svg>", ""])


def _cell(x: float, y: float, found: Shade | None) -> str:
    if found is None:
        return _text(x + _CELL / 2, y + 15, "–", anchor="middle")
    if found.units is None:
        return _text(x + _CELL / 2, y + 15, found.text, anchor="middle")
    ink = "#ffffff" if abs(band_step(found.units)) == 4 else INK
    box = (
        f'<rect x="{x + 1:g}" y="{y + 1:g}" width="{_CELL - 2}" height="{_ROW - 2}" rx="3"'
        f' fill="{band_colour(found.units)}"/>'
    )
    return box + _text(x + _CELL / 2, y + 15, found.text, anchor="middle", fill=ink)


def _text(x: float, y: float, content: str, *, anchor: str = "start", fill: str = INK) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}">{escape(content)}</text>'
    )
