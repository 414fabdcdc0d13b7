"""Checks of single JSON values.

Each check returns the value with its type, or raises a RecordError with the place and the value.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .canonical import RecordError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def obj(value: Any, where: str, names: Sequence[str] | None = None) -> dict[str, Any]:
    """A JSON object; with `names`, one that has exactly these fields."""
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    if names is not None:
        missing = [n for n in names if n not in value]
        unknown = sorted(k for k in value if k not in names)
        if missing:
            raise RecordError(f"{where}: missing field {missing[0]!r}")
        if unknown:
            raise RecordError(
                f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(names)}"
            )
    return value


def array(value: Any, where: str) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return value


def text(value: Any, where: str, *, filled: bool = False) -> str:
    """A text; with `filled`, one that is not blank."""
    if not isinstance(value, str) or (filled and not value.strip()):
        raise _wrong(where, "a non-empty text" if filled else "a text", value)
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of texts that are not blank."""
    return tuple(text(v, f"{where}[{i}]", filled=True) for i, v in enumerate(array(value, where)))


def finite_number(value: Any, where: str) -> float:
    """A finite number; true and false are not numbers."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value != value
        or abs(value) == float("inf")
    ):
        raise _wrong(where, "a finite number", value)
    return value


def number_or_none(value: Any, where: str) -> float | None:
    """A finite number or null."""
    return None if value is None else finite_number(value, where)


def choice(value: Any, where: str, allowed: Sequence[str]) -> str:
    """One of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise _wrong(where, "one of " + ", ".join(allowed), value)
    return value


def sha256(value: Any, where: str) -> str:
    """A digest "sha256:" with 64 hex digits."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise _wrong(where, "a digest sha256:<64 hex digits>", value)
    return value


def sha256_or_none(value: Any, where: str) -> str | None:
    """A digest or null."""
    return None if value is None else sha256(value, where)


def digests(value: Any, where: str) -> dict[str, str]:
    """An object of digests by name."""
    return {name: sha256(item, f"{where}[{name!r}]") for name, item in obj(value, where).items()}


def moment(value: Any, where: str) -> str:
    """A UTC time like 2026-11-24T13:00:00Z."""
    if not isinstance(value, str) or not _CREATED.fullmatch(value):
        raise _wrong(where, "a UTC time like 2026-11-24T13:00:00Z", value)
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise _wrong(where, "a date that exists", value) from None
    return value


def printable(text: str) -> str:
    """The text on one line, as it may be shown in a terminal.

    What would end the line, command the terminal or change the direction of writing is escaped.
    """
    return "".join(c if _is_printable(c) else ascii(c)[1:-1] for c in text)


def _is_printable(character: str) -> bool:
    # Control, format and half characters, and ends of lines and paragraphs. str.isprintable() would
    # refuse characters that a later version of Unicode knows.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _wrong(where: str, wanted: str, value: Any) -> RecordError:
    shown = repr(value)
    return RecordError(
        f"{where} must be {wanted}, got {shown if len(shown) <= 60 else shown[:59] + '…'}"
    )
