"""How figures look: colours that colour-blind readers can tell apart, markers, lines and names."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

from eigenforget.record import RunRecord

# Okabe and Ito's palette (jfly.uni-koeln.de/color), without black and yellow: one vanishes on dark
# paper, one on white.
BLUE, VERMILLION, ORANGE = "#0072B2", "#D55E00", "#E69F00"
PURPLE, SKY, GREEN = "#CC79A7", "#56B4E9", "#009E73"
GREY = "#888888"
GRID_LINES = "rgba(128,128,128,0.25)"
FAINT = "rgba(0,158,115,0.18)"
INK = "#111111"
"""Text on cells, which are light in dark mode too."""

# Green in the band; orange above and purple below it, darker with each doubling of the distance,
# and light enough for black numbers on all.
ABOVE, INSIDE, BELOW = (
    ("#fde0b5", "#f7b765", "#e58a2c", "#c96a12"),
    "#8fd0b0",
    ("#e6e0f2", "#c9bce3", "#ad98d4", "#8f70c4"),
)
_STEPS = (1.0, 2.0, 4.0, 8.0)

_MODEL_COLOURS = (VERMILLION, BLUE, PURPLE, ORANGE, SKY)
_CLASS_COLOURS = (BLUE, SKY, GREEN, ORANGE, PURPLE, GREY)
_CLASS_SYMBOLS = ("circle", "square", "diamond")
_SYMBOLS = ("circle", "square", "triangle-up", "cross", "star", "hexagon", "triangle-down")
_DASHES = ("solid", "dash", "dashdot", "longdash")


class Style(NamedTuple):
    """Colour, marker and dash of one model, in plotly's words."""

    colour: str
    symbol: str
    dash: str

    def line(self, width: float | None = 2) -> dict[str, Any]:
        """The model's line, of so many pixels; None for plotly's width."""
        line = {"color": self.colour, "dash": self.dash}
        return line if width is None else {**line, "width": width}

    def marker(self, size: float | None = None) -> dict[str, Any]:
        """The model's marker, of so many pixels; None for plotly's size."""
        marker = {"color": self.colour, "symbol": self.symbol}
        return marker if size is None else {**marker, "size": size}


def styles(records: Sequence[RunRecord]) -> dict[str, Style]:
    """A style for each model name.

    The original is grey and retrained models are green; all others take the palette in turn.
    """
    found: dict[str, Style] = {}
    counts = {"original": 0, "oracle": 0, "other": 0}
    for record in records:
        group = record.role if record.role in ("original", "oracle") else "other"
        i = counts[group]
        counts[group] += 1
        palette = _MODEL_COLOURS[i % len(_MODEL_COLOURS)]
        colour = {"original": GREY, "oracle": GREEN}.get(group, palette)
        turn = i // len(_MODEL_COLOURS) if group == "other" else i
        # Controls are dotted: what they lie exactly on, most often the original, shines through.
        dash = "dot" if record.role == "control" else _DASHES[turn % len(_DASHES)]
        symbol = {"original": "diamond", "oracle": "x"}.get(group, _SYMBOLS[i % len(_SYMBOLS)])
        found[record.name] = Style(colour, symbol, dash)
    return found


def class_marker(index: int) -> dict[str, Any]:
    """The pale marker of a retained class."""
    symbol = _CLASS_SYMBOLS[index // len(_CLASS_COLOURS) % len(_CLASS_SYMBOLS)]
    colour = _CLASS_COLOURS[index % len(_CLASS_COLOURS)]
    return {"color": colour, "symbol": symbol, "size": 5, "opacity": 0.4}


def shown(name: object, limit: int = 22) -> str:
    """A name as plotly text of at most `limit` characters.

    Markup in it stays text. Long names are cut in the middle, as names often differ at their end.
    """
    text = str(name)
    if len(text) > limit:
        end = (limit - 1) // 2
        text = f"{text[: limit - 1 - end]}…{text[-end:]}"
    return html.escape(text, quote=False)


def band_step(units: float) -> int:
    """How far a gap in half-widths lies outside the band.

    Returns:
        0 in the band; ±1 … ±4 outside it, one more for each doubling of the distance.
    """
    size = sum(abs(units) > limit + 1e-9 for limit in _STEPS)
    return size if units > 0 else -size


def band_colour(units: float) -> str:
    """The colour of a gap in half-widths of the band."""
    step = band_step(units)
    return INSIDE if step == 0 else ABOVE[step - 1] if step > 0 else BELOW[-step - 1]
