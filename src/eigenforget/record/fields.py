"""Checks of single JSON values.

Each check returns the value with its type, or raises a RecordError with the place and the value.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from .canonical import RecordError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MOST_NUMBER = 1e100
"""Of a score or of seconds: bands and tables square them and add them up."""
_LEAST_WHOLE, _MOST_WHOLE = -(1 << 63), (1 << 64) - 1
"""Of integers in free JSON."""
MOST_LEVELS = 200
"""Of free JSON. Readers that call themselves for each level stay within Python's own limit."""
# Letters and marks without ink, beside those of category Cf: joiners, fillers, selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_CREATED = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", re.ASCII)


def obj(value: Any, where: str, names: Sequence[str] | None = None) -> dict[str, Any]:
    """A JSON object; with `names`, one that has exactly these fields."""
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    if names is not None and value.keys() != set(names):
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


def line(value: Any, where: str, *, filled: bool = True) -> str:
    """A text for one line, such as a name, that is shown as it is; with `filled`, not blank."""
    found = text(value, where, filled=filled)
    if printable(found) != found:
        raise _wrong(where, "one line without control or invisible characters", found)
    return found


def appearance(name: str) -> str:
    """What is left of a name for the eye: equal for "FT", " ft" and the full-width "ＦＴ"."""
    if name.isascii() and name.isprintable():  # nothing to normalise, nothing unseen
        return " ".join(name.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(c for c in folded if _is_seen(c)).split())


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that look the same and are not; None where there are none."""
    seen: dict[str, str] = {}
    for name in names:
        if seen.setdefault(appearance(name), name) != name:
            return seen[appearance(name)], name
    return None


def check_names(names: Iterable[str], what: str) -> None:
    """Checks that these may be names of models beside each other.

    Args:
        names: The names.
        what: What they are, for the message.

    Raises:
        RecordError: One is not one line, or two look the same.
    """
    found = [line(name, what) for name in names]
    twins = alike(found)
    if twins is not None:
        raise RecordError(f"{what}: {twins[1]!r} looks like {twins[0]!r}; rename one of them")


def free_object(value: Any, where: str) -> dict[str, Any]:
    """A JSON object of any content that every reader can take: numbers and depth have bounds."""
    level: list[Any] = [obj(value, where)]
    for _ in range(MOST_LEVELS):
        boxes: list[Any] = []
        for box in level:
            for item in box if type(box) is list else box.values():
                kind = type(item)  # exactly, since JSON has no other types
                if kind is float:
                    if not -math.inf < item < math.inf:
                        raise _wrong(f"a number in {where}", "finite", item)
                elif kind is int:
                    if not _LEAST_WHOLE <= item <= _MOST_WHOLE:
                        raise _wrong(f"a number in {where}", "an integer of 64 bits", item)
                elif kind is list or kind is dict:
                    boxes.append(item)
        level = boxes
        if not level:
            return cast(dict[str, Any], value)
    raise RecordError(f"{where} is nested more than {MOST_LEVELS} levels deep")


def finite_number(value: Any, where: str) -> float:
    """A number of at most MOST_NUMBER, an integer only if a double holds it.

    True and false are not numbers.
    """
    if type(value) is float and -MOST_NUMBER <= value <= MOST_NUMBER:  # nearly always
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise _wrong(where, "a finite number", value)
    if abs(value) > (1 << 53 if isinstance(value, int) else MOST_NUMBER):
        raise _wrong(where, f"a finite number (of at most {MOST_NUMBER:g}, integers 2**53)", value)
    return value


def number_or_none(value: Any, where: str) -> float | None:
    """A finite number or null."""
    if value is None or (type(value) is float and -MOST_NUMBER <= value <= MOST_NUMBER):
        return value  # nearly always
    return finite_number(value, where)


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
    return {
        line(name, f"a name in {where}"): sha256(item, f"{where}[{name!r}]")
        for name, item in obj(value, where).items()
    }


def moment(value: Any, where: str) -> str:
    """A UTC time like 2026-11-24T13:00:00Z."""
    if not isinstance(value, str) or not (found := _CREATED.fullmatch(value)):
        raise _wrong(where, "a UTC time like 2026-11-24T13:00:00Z", value)
    try:
        year, month, day, hour, minute, second = map(int, found.groups())
        datetime(year, month, day, hour, minute, second)
    except ValueError:
        raise _wrong(where, "a date that exists", value) from None
    return value


def printable(text: str) -> str:
    """The text on one line, as it may be shown in a terminal.

    What would end the line, command the terminal or change the direction of writing is escaped.
    """
    if text.isascii() and text.isprintable():  # nearly always, and much faster
        return text
    return "".join(c if _is_printable(c) else ascii(c)[1:-1] for c in text)


def _is_seen(character: str) -> bool:
    return _is_printable(character) and not _INVISIBLE.match(character)


def _is_printable(character: str) -> bool:
    # Control, format and half characters, and ends of lines and paragraphs. str.isprintable() would
    # refuse characters that a later version of Unicode knows.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _wrong(where: str, wanted: str, value: Any) -> RecordError:
    shown = repr(value)
    return RecordError(
        f"{where} must be {wanted}, got {shown if len(shown) <= 60 else shown[:59] + '…'}"
    )
