"""Specs of requests with pseudonyms for the values that can name a person.

The class of each request declares which fields those are. A request that declares nothing is hidden
as a whole, so that a new kind cannot leak what it holds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

Hide = Callable[[str, Any], str]
"""hide(kind, value) -> pseudonym"""

_PLAIN_COLUMNS = {"column:label": "", "column:id": "id", "column:group": "group"}


class Personal(NamedTuple):
    """Which fields of one kind of request can name a person.

    Args:
        kinds: The kind of value in each such field: "id", "group", or "column:<name>", where
            "{field}" stands for the value of another field. Values of the column "label" are class
            numbers and stay as they are.
        defaults: Default values of fields, which a spec may leave out.
    """

    kinds: Mapping[str, str]
    defaults: Mapping[str, Any] = {}


class Hidden:
    """Hides personal values in the specs of requests, as JSON and as text.

    Args:
        hide: Makes the pseudonym of a value of a kind.
        personal: What each kind of request declares, by `key_of`.
        whole: Keys of requests that declare nothing: all of their values are hidden.
    """

    def __init__(
        self, hide: Hide, personal: Mapping[str, Personal], whole: Collection[str] = ()
    ) -> None:
        self._hide, self._personal = hide, personal
        self._whole = frozenset(whole) - personal.keys()
        keys = {key for key, told in personal.items() if told.kinds} | self._whole
        names = sorted({"python" if ":" in key else key for key in keys})
        self._calls = (
            re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\s*\(") if names else None
        )

    def fields(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a resolved spec with pseudonyms where they can name a person.

        Specs within the fields stay as they are; so do the specs of anything but requests.
        """
        key = key_of(name, fields)
        if key in self._whole:
            plain = ("path", "duplicates") if name == "python" else ("duplicates",)
            return {
                field: value if field in plain else self._all(f"{key}.{field}", value)
                for field, value in fields.items()
            }
        told = self._personal.get(key, Personal({}))
        found = dict(fields)
        for field in told.kinds.keys() & fields.keys():
            kind = told.kinds[field].format(**{**told.defaults, **fields})
            if kind := _PLAIN_COLUMNS.get(kind, kind):
                found[field] = self._all(kind, fields[field])
        return found

    def text(self, text: str) -> str:
        """The text with each spec of such a request rewritten; what is no whole spec stays."""
        done, at = "", 0
        while self._calls and (found := self._calls.search(text, at)):
            end = _end(text, found.end() - 1)
            tree = tree_of(text[found.start() : end]) if end else None
            done += text[at : found.start()]
            at = end if tree is not None else found.end()
            done += found[0] if tree is None else _spelled(self._tree(tree))
        return done + text[at:]

    def _tree(self, value: Any) -> Any:
        if _is_spec(value):
            fields = self.fields(value["name"], value["fields"])
            return {**value, "fields": {key: self._tree(item) for key, item in fields.items()}}
        return [self._tree(item) for item in value] if isinstance(value, list) else value

    def _all(self, kind: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._all(kind, item) for item in value]
        if value is None or isinstance(value, bool) or _is_spec(value):
            return value
        return self._hide(kind, value)


def key_of(name: str, fields: Mapping[str, Any]) -> str:
    """The kind of a request: its name, or the path of the user's own class, "mine.py:Mine"."""
    return str(fields.get("path")) if name == "python" else name


def keys_in(value: Any) -> set[str]:
    """The kinds of all specs within a JSON value."""
    if isinstance(value, Mapping):
        own = {key_of(value["name"], value["fields"])} if _is_spec(value) else set()
        return own.union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, (list, tuple)) else set()


def tree_of(spec: str) -> Any:
    """The spec as {"name": …, "fields": …}, as it is resolved in records; None where it is none."""
    try:
        tree = _literal(ast.parse(spec, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return None
    return tree if _is_spec(tree) else None


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.args:
            raise ValueError
        fields = {str(word.arg): _literal(word.value) for word in node.keywords}
        return {"name": node.func.id, "fields": fields}
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def _spelled(value: Any) -> str:
    if _is_spec(value):
        fields = ", ".join(f"{key}={_spelled(item)}" for key, item in value["fields"].items())
        return f"{value['name']}({fields})"
    if isinstance(value, list):
        return f"({', '.join(map(_spelled, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _is_spec(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"name", "fields"}


def _end(text: str, start: int) -> int:
    """One past the bracket that closes the one at `start`, quotes aside; 0 where none does."""
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
