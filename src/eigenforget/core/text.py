"""How lists of values and words stand in messages and on pages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def listed(values: Iterable[Any], limit: int = 10) -> str:
    """The first values, and how many there are where some are left out: "a, b, … (12 in all)"."""
    items = [str(v) for v in values]
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown}, … ({len(items)} in all)"


def displayed(value: Any) -> str:
    """A value as it stands in a message: printable, on one line, and cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python spells no integer of more than 4,300 digits
        size = f" of {value.bit_length()} bits" if isinstance(value, int) else ""
        return f"a huge {type(value).__name__}{size}"
    return _cut(text, 120)


def as_line(text: str, limit: int = 2000) -> str:
    """A message as one printed line: names of files may hold line ends and escape codes."""
    words = " ".join(text.split())
    return _cut("".join(c if c.isprintable() else repr(c)[1:-1] for c in words), limit)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    cut = limit * 2 // 3
    return f"{text[:cut]} … {text[cut - limit :]} ({len(text)} characters)"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def joined(words: Sequence[str], last: str = "and") -> str:
    """The words as in a sentence: "a", "a and b", "a, b and c"; "" for none."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def suggested(word: str, known: Iterable[str], *, most: int = 1, least: float = 0.6) -> str:
    """What a misspelt word may have meant: " (did you mean muda?)"; "" where nothing is near.

    Args:
        word: The word.
        known: Words that there are.
        most: How many of them are named.
        least: Their least similarity, of 1 for the word itself, as `difflib` counts.
    """
    near = difflib.get_close_matches(word[:100], list(known), n=most, cutoff=least)
    return f" (did you mean {joined(near, 'or')}?)" if near else ""


def counted(n: int, one: str, many: str) -> str:
    """A number and its noun: "1 model", "2 models"."""
    return f"{n} {one if n == 1 else many}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut where it is long; its type where there is none."""
    lines = str(error).strip().splitlines()
    return _cut(lines[0], 400) if lines else type(error).__name__
