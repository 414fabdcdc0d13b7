"""A salt, a pseudonym by hand, and records with ids hidden."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from eigenforget.core.spec import as_json, parse, spell
from eigenforget.record import (
    canonical,
    pseudonymised,
    to_json,
)
from eigenforget.requests import REQUESTS, personal_fields

SALT = bytes(range(32))
PERSONAL = personal_fields(None)


def name_of(value: str, kind: str = "id", salt: bytes = SALT) -> str:
    """By hand: the first 16 hex digits of HMAC-SHA-256."""
    return hmac.new(
        salt, f"eigenforget.pseudonym/1\x1f{kind}\x1f{value}".encode(), hashlib.sha256
    ).hexdigest()[:16]


def described(spec: str) -> dict[str, Any]:
    request = parse(spec, REQUESTS, "request")
    return {"spec": spell(request), "resolved": as_json(request)}


def hidden(record: Any, **more: Any) -> dict[str, Any]:
    """The pseudonymised record as JSON."""
    return json.loads(
        canonical(to_json(pseudonymised(record, SALT, **{"personal": PERSONAL, **more})))
    )
