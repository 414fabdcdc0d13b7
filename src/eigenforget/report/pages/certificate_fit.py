"""The type size at which a certificate fits on one A4 page, by an estimate on the safe side."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

SIZES = (9.0, 8.5, 8.0, 7.5, 7.0, 6.5, 6.0)
"""Type sizes in points, largest first. Below 6 nobody reads."""

_WIDTH, _HEIGHT = 516.0, 779.0
"""Points inside the margins of an A4 page: 182 × 275 mm."""

_LINE = 1.25
_NAMES, _GAP, _BULLET = 14.8, 1.5, 1.1
"""Widths in em, as in the template: the names before facts with their gap, the gap between the two
columns, a bullet's indent."""

_HEADINGS = 6
_FIXED = 11.0
"""Lines of title, subtitle, verification, signature file and the space to sign, which do not depend
on the record."""


class Content(NamedTuple):
    """Texts of a page.

    Attributes:
        values: Names, and what stands beside them.
        paragraphs: Texts across the page.
        rows: How many rows the table has.
        columns: The two lists that stand side by side.
    """

    values: list[tuple[str, str]]
    paragraphs: list[str]
    rows: int
    columns: tuple[list[str], list[str]]


def type_size(content: Content) -> float | None:
    """The largest of SIZES at which everything is on the page; None where none is small enough."""
    return next((size for size in SIZES if height(content, size) <= _HEIGHT), None)


def height(content: Content, size: float) -> float:
    """Points that the page takes at this type size."""
    full = _WIDTH / size
    column = (full - _GAP) / 2 - _BULLET
    lines = _FIXED + 1.75 * _HEADINGS + 1.25 * content.rows
    lines += sum(
        max(_lines(name, _NAMES - 2), _lines(text, full - _NAMES)) + 0.1
        for name, text in content.values
    )
    lines += sum(_lines(text, full) + 0.2 for text in content.paragraphs)
    lines += max(_stacked(texts, column) for texts in content.columns)
    return lines * _LINE * size


def _stacked(texts: Iterable[str], across: float) -> float:
    return sum(_lines(text, across) + 0.2 for text in texts)


def _lines(text: str, across: float) -> int:
    """Lines of that many em.

    A line that breaks before a long word is not full: five em of each line are given away.
    """
    total = sum(map(width, text))
    return 1 if total <= across else math.ceil(total / max(across - min(5.0, across / 4), 1.0))


def width(character: str) -> float:
    """Em of a character in a wide sans-serif type."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if not character.isascii() or character in "MW@%mw":
        return 1.0
    return 0.72 if character.isupper() else 0.35 if character in " il.,;:'|()" else 0.58
