"""Canonical JSON: one text per value, so that a digest of the text is a digest of the value."""

from __future__ import annotations

import hashlib
import json
from typing import Any


class RecordError(ValueError):
    """A record, or the value that should become one, is wrong. The message is one line.

    It is no EigenforgetError, since this package has to work alone.
    """


def canonical(value: Any, *, parsed: bool = False) -> str:
    """The value as canonical JSON.

    That is: sorted keys, no spaces, raw Unicode, shortest round-trip floats, and no final newline.

    Args:
        value: The value.
        parsed: It was read from JSON, so that its keys are text and it does not hold itself.

    Raises:
        RecordError: The value holds NaN, an infinity, a key that is not text, a lone surrogate, or
            something else that JSON cannot express.
    """
    try:
        text = json.dumps(
            value,
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            check_circular=not parsed,
        )
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"not plain JSON: {error}") from None
    if not parsed:
        _refuse_other_keys(value)
    return text


def value_digest(value: Any) -> str:
    """The digest "sha256:…" of the canonical JSON text in UTF-8."""
    return f"sha256:{hashlib.sha256(canonical(value).encode()).hexdigest()}"


def _refuse_other_keys(value: Any) -> None:
    # json.dumps writes {1: …} and {"1": …} alike: two values would share a digest.
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    raise RecordError(f"not plain JSON: key {key!r} is not text")
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
