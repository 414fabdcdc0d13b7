"""The ends of axes, round numbers on them, and how these are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eigenforget.report.figures.drawing import Axis

_MARGIN = 0.04
"""Share of the span that stays free at each end of an axis whose range follows from its data."""

_STEPS = (0.5, 1, 2, 5, 10)
"""Between round numbers, in powers of ten."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def axis_ends(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: its range, or that of the values with some room.

    On a logarithmic axis only positive values count.
    """
    if axis.range is not None:
        return axis.range
    known = [v for v in values if math.isfinite(v) and (v > 0 or not axis.log)]
    if not known:
        return (1.0, 10.0) if axis.log else (0.0, 1.0)
    low, high = min(known), max(known)
    if axis.log:
        room = max(high / low, 1.2) ** _MARGIN
        return low / room, high * room
    low = min(low, 0.0) if axis.from_zero else low
    room = (high - low or abs(high) or 1.0) * _MARGIN
    return (low if axis.from_zero and low == 0 else low - room), high + room


def round_numbers(low: float, *, high: float, log: bool, most: int = 6) -> list[float]:
    """Round numbers from low to high, some `most` of them.

    Linear: multiples of 1, 2 or 5 times a power of ten. Logarithmic: powers of ten, and 2 and 5
    times these where there are few; multiples, as on a linear one, where there is but one of these.
    """
    low, high = min(low, high), max(low, high)
    if log and len(found := _powers(low, high, most)) > 1:
        return found
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    enough = next(i for i, m in enumerate(_STEPS) if i and m * power * most >= high - low)
    found = _multiples(low, high, _STEPS[enough] * power)
    # A single number is no scale.
    return found if len(found) > 1 else _multiples(low, high, _STEPS[enough - 1] * power)


def tick_text(value: float, axis: Axis) -> str:
    """The number as the axis writes it."""
    if axis.percent:
        return f"{100 * value:.4g}%"
    power = math.log10(value) if axis.log and value > 0 else 0.0
    if abs(power) > 3 and power == round(power):
        return f"10{str(round(power)).translate(_SUPERSCRIPT)}"
    return f"{value:.4g}".replace("-", "−")


def _multiples(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _powers(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1.0, 2.0, 5.0), (1.0,)):
        every = [float(f"{f}e{power}") for power in range(first, last + 1) for f in factors]
        inside = [v for v in every if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) <= most:
            return inside
    return inside[:: -(-len(inside) // most)]
