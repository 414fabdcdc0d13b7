"""Specs of requests, such as by_group(group='ann'), with pseudonyms for the values that can name a
person.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

Hide = Callable[[str, Any], str]
"""hide(kind, value) -> pseudonym"""

_PLACES = {"by_ids": "ids", "by_group": "group", "by_subclass": "value", "where": "value"}
"""The field with personal values, by the name of the request."""
_CALL = re.compile(rf"\b(?:{'|'.join(_PLACES)})\s*\(")


def hidden_spec(name: str, fields: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
    """The fields of a resolved request with pseudonyms in the one that can name a person; other
    fields, and other specs, as they are.
    """
    place = _PLACES.get(name, "")
    if place not in fields:
        return dict(fields)
    kind = _kind(name, fields.get("column", "fine"))
    return (
        {**fields, place: _hidden(fields[place], lambda value: hide(kind, value))}
        if kind
        else dict(fields)
    )


def hidden_specs_in(text: str, hide: Hide) -> str:
    """The text with every spec of such a request in it rewritten; what is no whole spec stays."""
    done, at = "", 0
    while found := _CALL.search(text, at):
        end = _end(text, found.end() - 1)
        spec = _rewritten(text[found.start() : end], hide) if end else None
        stop = end if spec is not None else found.end()
        done += text[at : found.start()] + (text[found.start() : stop] if spec is None else spec)
        at = stop
    return done + text[at:]


def _kind(name: str, column: Any) -> str:
    """What a value is; "" for class labels, which name no one."""
    if name in ("by_ids", "by_group"):
        return name.removeprefix("by_").removesuffix("s")
    return {"label": "", "id": "id", "group": "group"}.get(column, f"column:{column}")


def _hidden(value: Any, hide: Callable[[Any], str]) -> Any:
    return (
        [_hidden(item, hide) for item in value] if isinstance(value, (list, tuple)) else hide(value)
    )


def _end(text: str, start: int) -> int:
    """One past the bracket that closes the one at `start`; 0 where none does. Brackets in quotes do
    not count.
    """
    depth, quote, at = 0, "", start
    while at < len(text):
        mark = text[at]
        if quote:
            at += mark == "\\"
            quote = "" if mark == quote else quote
        elif mark in "'\"":
            quote = mark
        elif mark in "()":
            depth += 1 if mark == "(" else -1
            if depth == 0:
                return at + 1
        at += 1
    return 0


def _rewritten(spec: str, hide: Hide) -> str | None:
    """None where it is not of the form name(field=literal, …)."""
    try:
        call = ast.parse(spec, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        fields = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return None
    hidden = hidden_spec(call.func.id, fields, hide)
    written = (
        f"{key}={tuple(value) if isinstance(value, list) else value!r}"
        for key, value in hidden.items()
    )
    return f"{call.func.id}({', '.join(written)})"
