"""The marks of figures as SVG paths around a point."""

from __future__ import annotations

import math
from itertools import pairwise

_STROKED = {"x": "m-{r} -{r}l{d} {d}m0 -{d}l-{d} {d}", "cross": "m-{r} 0h{d}m-{r} -{r}v{d}"}
_CORNERS = {
    "diamond": (4, 0.0),
    "square": (4, 45.0),
    "hexagon": (6, 0.0),
    "triangle-up": (3, 0.0),
    "triangle-down": (3, 180.0),
}
"""Number of corners, and degrees from the top to the first."""


def mark_path(symbol: str, radius: float) -> tuple[str, bool]:
    """The path of a mark from its middle on, and whether it is stroked and not filled.

    Args:
        symbol: As in Style.
        radius: Its half width.

    Raises:
        KeyError: There is no such mark.
    """
    kind, is_open = symbol.removesuffix("-open"), symbol.endswith("-open")
    if kind in _STROKED:
        arm = round(0.8 * radius, 1)
        return _STROKED[kind].format(r=f"{arm:g}", d=f"{2 * arm:g}"), True
    if kind == "circle":
        # A line of no length with round ends is a disc; an open one is two arcs.
        r, d = f"{radius:g}", f"{2 * radius:g}"
        return (
            (f"m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0", True) if is_open else ("h0", True)
        )
    if kind == "star":
        return _polygon(10, 0.0, (1.2 * radius, 0.55 * radius)), is_open
    corners, turn = _CORNERS[kind]
    return _polygon(corners, turn, (1.15 * radius,)), is_open


def _polygon(corners: int, turn: float, radii: tuple[float, ...]) -> str:
    """A closed polygon around the current point, whose corners take the radii in turn."""
    places = []
    for i in range(corners):
        angle, radius = math.radians(turn + 360 * i / corners), radii[i % len(radii)]
        places.append((round(radius * math.sin(angle), 1), round(-radius * math.cos(angle), 1)))
    steps = [places[0]] + [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)]
    path = "".join(
        f"{x:.1f} {y:.1f}l" if i else f"m{x:.1f} {y:.1f}l" for i, (x, y) in enumerate(steps)
    )
    return path.removesuffix("l") + "z"
