"""The colours of cells, by whole numbers, and the rules of the style sheet that paint them."""

from __future__ import annotations

from eigenforget.report.figures.style import ABOVE, BELOW, GREEN, INSIDE, ORANGE, SKY


def _mixed(colour: str, share: float) -> str:
    """The colour on white, of this share."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


_STEPS = 10
PALETTES: dict[str, dict[int, str]] = {
    "band": dict(zip(range(-4, 5), (*reversed(BELOW), INSIDE, *ABOVE), strict=True)),
    "green": {i: _mixed(GREEN, i / _STEPS) for i in range(_STEPS + 1)},
    "sky": {i: _mixed(SKY, i / _STEPS) for i in range(_STEPS + 1)},
    "agreement": {i: _mixed(SKY if i > 0 else ORANGE, abs(i) / _STEPS) for i in range(-10, 11)},
}
"""Colours of cells by whole numbers. Shades run to ±10; bands count half-widths doubled."""


def shade_step(value: float | None) -> int | None:
    """The number of a shade from −1 to 1 in a palette that runs to ±10."""
    return None if value is None else round(_STEPS * min(max(value, -1.0), 1.0))


def palette_css() -> str:
    """The rules that colour the cells of heat maps."""
    return "\n".join(
        f".{name} .{cell_class(step)} {{ background: {colour}; fill: {colour}; }}"
        for name, colours in PALETTES.items()
        for step, colour in colours.items()
    )


def cell_class(step: int) -> str:
    """The class of cells of this number."""
    return f"u{step}" if step >= 0 else f"d{-step}"
