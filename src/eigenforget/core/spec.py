"""`muda(k=9)` ⇄ frozen dataclass ⇄ JSON: the only configuration system.

A choice is a value with one spelling. Specs hold Python literals and nested specs only; nothing is
evaluated.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pydantic
from pydantic.dataclasses import dataclass as _pydantic_dataclass

from eigenforget.core.errors import EigenforgetError

T = TypeVar("T")
_CONFIG = pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def configured(cls: type[T]) -> type[T]:
    """Decorator: a frozen, keyword-only dataclass whose fields pydantic validates. The class sets
    `name: ClassVar[str]`.
    """
    made = _pydantic_dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    return typing.cast("type[T]", made)


def parse(text: str, choices: Sequence[type], what: str, nested: Sequence[type] = ()) -> Any:
    """The instance that `text` spells, for example parse("muda(k=9)", METHODS, "method").

    Errors: EigenforgetError in one line that lists the valid names or fields. `nested` may appear
    as field values.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise EigenforgetError(f"{what} {text!r} is not of the form name(field=value, …)") from None
    return _build(tree, choices, what, text, nested or choices)


def build(name: str, fields: dict[str, Any], choices: Sequence[type], what: str) -> Any:
    """The named choice with these fields, or a one-line error that lists what is valid."""
    kind = _named(name, choices, what)
    known = [f.name for f in dataclasses.fields(kind)]
    if "recipe" in fields and "recipe" not in known:
        fields = _with_recipe(kind, dict(fields), what)
    for key in fields:
        if key not in known:
            raise EigenforgetError(
                f"{what} {name} has no field {key!r}{_hint(key, known)}; its fields: {_listing(known)}"
            )
    try:
        return kind(**fields)
    except pydantic.ValidationError as error:
        raise EigenforgetError(f"{what} {name}: {one_line(error)}") from None


def spell(value: Any) -> str:
    """The canonical spelling: the name and every field that differs from its default."""
    if isinstance(value, tuple):
        return f"({', '.join(map(spell, value))}{',' if len(value) == 1 else ''})"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    given = []
    for f in dataclasses.fields(value):
        current = getattr(value, f.name)
        if current != _default(f):
            given.append(f"{f.name}={spell(current)}")
    return f"{value.name}({', '.join(given)})"  # type: ignore[attr-defined]


def as_json(value: Any) -> Any:
    """The resolved spec as plain JSON: {"name": …, "fields": {…}} with every field, defaults
    included.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": value.name, "fields": fields}  # type: ignore[attr-defined]
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    return value


def from_json(value: Any, choices: Sequence[type], what: str) -> Any:
    """The inverse of as_json."""
    if isinstance(value, dict) and set(value) == {"name", "fields"}:
        fields = {k: from_json(v, choices, what) for k, v in value["fields"].items()}
        return build(value["name"], fields, choices, what)
    if isinstance(value, list):
        return tuple(from_json(v, choices, what) for v in value)
    return value


def describe(kind: type) -> list[tuple[str, str, str, str]]:
    """(field, type, default, description) of each field, for help texts."""
    hints = typing.get_type_hints(kind)
    docs = getattr(kind, "__pydantic_fields__", {})
    rows = []
    for f in dataclasses.fields(kind):
        default = _default(f)
        shown = "required" if default is dataclasses.MISSING else repr(default)
        note = docs[f.name].description if f.name in docs else ""
        rows.append((f.name, _type_name(hints[f.name]), shown, note or ""))
    return rows


def one_line(error: pydantic.ValidationError) -> str:
    """A validation error as `field: message, got value; …`."""
    parts = []
    for item in error.errors():
        where = ".".join(str(p) for p in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        got = "" if item["type"] in ("missing", "value_error") else f", got {item['input']!r}"
        parts.append(f"{where}: {message}{got}" if where else f"{message}{got}")
    return "; ".join(parts)


def _build(
    node: ast.expr, choices: Sequence[type], what: str, text: str, nested: Sequence[type]
) -> Any:
    call = ast.Call(func=node, args=[], keywords=[]) if isinstance(node, ast.Name) else node
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise EigenforgetError(f"{what} {text!r} is not of the form name(field=value, …)")
    if call.args:
        raise EigenforgetError(
            f"{what} {text!r}: fields are given by name, as in name(field=value)"
        )
    fields: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in fields:
            raise EigenforgetError(f"{what} {text!r}: each field is given once, by name")
        fields[keyword.arg] = _value(keyword.value, text, what, nested)
    return build(call.func.id, fields, choices, what)


def _value(node: ast.expr, text: str, what: str, nested: Sequence[type]) -> Any:
    if isinstance(node, ast.Call):
        return _build(node, nested, what, text, nested)
    if isinstance(node, ast.Tuple) and any(isinstance(item, ast.Call) for item in node.elts):
        return tuple(_value(item, text, what, nested) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise EigenforgetError(
            f"{what} {text!r}: {ast.unparse(node)!r} is not a literal (quote strings)"
        ) from None


def _with_recipe(kind: type, fields: dict[str, Any], what: str) -> dict[str, Any]:
    """recipe="…" stands for the published settings of that name; fields that are given beside it
    win.
    """
    recipes, chosen = getattr(kind, "recipes", {}), fields.pop("recipe")
    if chosen not in recipes:
        raise EigenforgetError(
            f"{what} {kind.name} has no recipe {chosen!r}; its recipes: {_listing(sorted(recipes))}"
        )  # type: ignore[attr-defined]
    return {**recipes[chosen], **fields}


def _named(name: str, choices: Sequence[type], what: str) -> type:
    for kind in choices:
        if kind.name == name:  # type: ignore[attr-defined]
            return kind
    known = sorted(kind.name for kind in choices)  # type: ignore[attr-defined]
    raise EigenforgetError(
        f"unknown {what} {name!r}{_hint(name, known)}; choose from: {_listing(known)}"
    )


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _listing(known: Sequence[str]) -> str:
    return ", ".join(known) if known else "none"


def _default(f: dataclasses.Field[Any]) -> Any:
    default = f.default
    if default is dataclasses.MISSING and f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    if isinstance(default, pydantic.fields.FieldInfo):
        return (
            dataclasses.MISSING
            if default.is_required()
            else default.get_default(call_default_factory=True)
        )
    return default


def _type_name(hint: Any) -> str:
    if inspect.isclass(hint) and not typing.get_args(hint):
        return hint.__name__
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(a) for a in typing.get_args(hint))
    return str(hint).replace("typing.", "").replace("NoneType", "None")
