"""How figures look: one colour code for all of them, markers, lines and names.

Green is what retraining gives, grey is the original, vermillion is the forget set or a trace of it,
and every other model has a colour of its own. Colour-blind readers can tell these colours apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eigenforget.record import RunRecord

# Okabe and Ito's palette (jfly.uni-koeln.de/color), without black and yellow: one vanishes on dark
# paper, one on white.
BLUE, VERMILLION, ORANGE = "#0072B2", "#D55E00", "#E69F00"
PURPLE, SKY, GREEN = "#CC79A7", "#56B4E9", "#009E73"
GREY = "#888888"
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

_MODEL_COLOURS = (BLUE, PURPLE, SKY, ORANGE)
# Each has an outline of its own, for controls.
_SYMBOLS = ("circle", "square", "triangle-up", "star", "hexagon", "triangle-down")
_DASHES = ("solid", "dash", "dashdot", "longdash")


@dataclass(frozen=True)
class Style:
    """How a model, or what else has a place of its own in a figure, is drawn.

    Attributes:
        colour: Of lines and marks.
        symbol: Of marks: circle, square, diamond, hexagon, star, triangle-up, triangle-down, cross
            or x; with "-open" only its outline is drawn. "" draws none.
        dash: Of lines: solid, dot, dash, dashdot or longdash; "" draws none.
        width: Of lines, in pixels.
        size: Of marks, in pixels.
        opacity: From 0 to 1.
    """

    colour: str
    symbol: str = ""
    dash: str = ""
    width: float = 2.0
    size: float = 7.0
    opacity: float = 1.0

    def line(self, width: float = 2.0) -> Style:
        """Only its line."""
        return replace(self, symbol="", width=width)

    def marks(self, size: float = 7.0) -> Style:
        """Only its marks."""
        return replace(self, dash="", size=size)

    def both(self, size: float = 6.0) -> Style:
        """Its line with marks on it."""
        return replace(self, size=size)


ORIGINAL = Style(GREY, "diamond", "solid")
RETRAINED = Style(GREEN, "x", "solid")
RETRAINED_RANGE = Style(GREEN, dash="", opacity=0.18)
FORGET = Style(VERMILLION, "x", "solid")
PARETO = Style(GREY, dash="solid")
HINT = Style(GREY, dash="dot", width=1.5)
"""Lines that mark a place."""


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
        if group != "other":
            kind = ORIGINAL if group == "original" else RETRAINED
            found[record.name] = replace(kind, dash=_DASHES[i % len(_DASHES)])
            continue
        # Controls are dotted: what they lie exactly on, most often the original, shines through.
        turn = _DASHES[i // len(_MODEL_COLOURS) % len(_DASHES)]
        dash, end = ("dot", "-open") if record.role == "control" else (turn, "")
        symbol = _SYMBOLS[i % len(_SYMBOLS)] + end
        found[record.name] = Style(_MODEL_COLOURS[i % len(_MODEL_COLOURS)], symbol, dash)
    return found


def shown(name: object, limit: int = 22) -> str:
    """A name of at most `limit` characters.

    Long names are cut in the middle, as names often differ at their end.
    """
    text = str(name)
    if len(text) > limit:
        end = (limit - 1) // 2
        text = f"{text[: limit - 1 - end]}…{text[-end:]}"
    return text


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
