"""`muda(k=9)` ⇄ frozen dataclass ⇄ JSON: the only configuration system.

A choice is a value with one spelling. Specs hold only Python literals and nested specs. Nothing is
evaluated, except that `python(path="mine.py:Mine")` runs the user's own file.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import pydantic
from pydantic.dataclasses import dataclass as _pydantic_dataclass
from pydantic.dataclasses import is_pydantic_dataclass, rebuild_dataclass

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import path_of
from eigenforget.core.text import displayed, first_line, suggested

_T = TypeVar("_T")
_CONFIG = pydantic.ConfigDict(
    extra="forbid",
    strict=True,
    arbitrary_types_allowed=True,
    allow_inf_nan=False,
    defer_build=True,  # until the first instance: a door loads eighty classes and uses a few
)
_MOST_PROBLEMS = 5
_DEEPEST = 50
"""Levels of brackets and operators in a spec. No sensible spec has more, and beyond some depth
Python's own parsers fail with other errors."""


@runtime_checkable
class _TakesPaths(Protocol):
    """Choices, such as a Registry, that find classes in the user's own files too."""

    def at(self, path: str) -> type: ...


_RECIPE = "_recipe"
"""Where an instance keeps the name of the recipe that it was made from; it is no field."""


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def configured(cls: type[_T]) -> type[_T]:
    """Decorator: makes a frozen, keyword-only dataclass whose fields pydantic validates.

    The class sets `name: ClassVar[str]`. Where it has `recipes`, a mapping of published settings by
    name, the constructor takes `recipe="…"` beside the fields; fields that are given win. Wrong
    arguments are an EigenforgetError in one line.
    """
    made = _pydantic_dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    validated = made.__init__

    @functools.wraps(validated)
    def checked(self: Any, *args: Any, **fields: Any) -> None:
        kind = type(self)
        label = getattr(kind, "name", kind.__name__)
        if args:
            raise EigenforgetError(
                f"{label}: fields are given by name, as in {kind.__name__}(field=value)"
            )
        _complete(made, checked)
        given, fields = fields, _checked_names(kind, fields, label)
        for key, value in fields.items():
            _check_plain(value, f"{label}: {key}")
        try:
            validated(self, **fields)
        except pydantic.ValidationError as error:
            raise EigenforgetError(f"{label}: {one_line(error)}") from None
        if "recipe" in given and "recipe" not in fields:
            self.__dict__[_RECIPE] = given["recipe"]

    typing.cast("Any", made).__init__ = checked
    return typing.cast("type[_T]", made)


def _complete(made: Any, init: Any) -> None:
    """Builds the validator of a class before its first instance is made, and keeps our `init`."""
    if not made.__pydantic_complete__:
        rebuild_dataclass(made)
        made.__init__ = init


def parse(text: str, choices: Sequence[type], what: str, nested: Sequence[type] = ()) -> Any:
    """The instance that a text spells.

    For example, `muda(k=9)` among METHODS gives `MUDA(k=9)`.

    Args:
        text: The spec.
        choices: The classes to choose from, usually a Registry.
        what: What one of them is called in messages, such as "method".
        nested: Classes that may appear as field values; by default `choices`.

    Raises:
        EigenforgetError: The text has another form, or a name, field or value is wrong; the message
            lists the valid ones.
    """
    return _build(call_of(text, what=what), choices, what, text, nested or choices)


def build_choice(name: str, fields: dict[str, Any], choices: Sequence[type], *, what: str) -> Any:
    """The named choice with these fields, or a one-line error that lists what is valid."""
    if name == "python" and isinstance(choices, _TakesPaths):
        fields = dict(fields)
        kind = choices.at(fields.pop("path", ""))
    else:
        kind = kind_of_name(name, choices, what=what)
    if not dataclasses.is_dataclass(kind):
        raise EigenforgetError(
            f"{what} {name}: {kind.__name__} is no dataclass; decorate it with configured"
        )
    label = f"{what} {getattr(kind, 'name', name)}"
    filled = _checked_names(kind, fields, label)
    try:
        return kind(**(fields if is_pydantic_dataclass(kind) else filled))
    except EigenforgetError as error:
        own = str(error).startswith(f"{getattr(kind, 'name', name)}:")
        raise EigenforgetError(f"{what if own else label + ':'} {error}") from None
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:  # a plain dataclass
        raise EigenforgetError(f"{label}: {first_line(error)}") from None


def spell(value: Any) -> str:
    """The canonical spelling: the name and every field that differs from its default."""
    if isinstance(value, tuple):
        return f"({', '.join(map(spell, value))}{',' if len(value) == 1 else ''})"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    path = path_of(type(value))
    given = [] if path is None else [f"path={path!r}"]
    for f in dataclasses.fields(value):
        current = getattr(value, f.name)
        if current != _default(f):
            given.append(f"{f.name}={spell(current)}")
    name = name_of(value) if path is None else "python"
    return f"{name}({', '.join(given)})"


def recipe_of(value: Any) -> str | None:
    """The name of the recipe that an instance was made from, as in scrub(recipe="…").

    It is no part of the spelling, which has every setting.
    """
    return getattr(value, "__dict__", {}).get(_RECIPE)


def changed_from_recipe(value: Any) -> tuple[str, ...]:
    """Names of the fields whose values are not the recipe's, as lr in scrub(recipe="…", lr=0.1)."""
    run = getattr(value, "recipes", {}).get(recipe_of(value), {})
    return tuple(sorted(name for name in run if getattr(value, name) != run[name]))


def as_json(value: Any) -> Any:
    """The resolved spec as plain JSON: {"name": …, "fields": {…}} with every field."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        path = path_of(type(value))
        if path is not None:
            return {"name": "python", "fields": {"path": path, **fields}}
        return {"name": name_of(value), "fields": fields}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    return value


def from_json(value: Any, choices: Sequence[type], what: str) -> Any:
    """The inverse of as_json."""
    if isinstance(value, dict) and set(value) == {"name", "fields"}:
        fields = {k: from_json(v, choices, what) for k, v in value["fields"].items()}
        return build_choice(value["name"], fields, choices, what=what)
    if isinstance(value, list):
        return tuple(from_json(v, choices, what) for v in value)
    return value


def name_of(kind: Any) -> str:
    """The `name` that every choice, a class or an instance of one, has in specs."""
    return str(kind.name)


def kind_of_name(name: str, choices: Sequence[type], *, what: str) -> type:
    """The choice of this name, or a one-line error that lists the names."""
    for kind in choices:
        if name_of(kind) == name:
            return kind
    known = sorted(map(name_of, choices))
    raise EigenforgetError(
        f"unknown {what} {displayed(name)}{suggested(name, known)}; choose from: {_listing(known)}"
    )


def describe(kind: type) -> list[tuple[str, str, str, str]]:
    """(field, type, default, description) of each field, for help texts."""
    hints, noted = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)
    rows = []
    for f in dataclasses.fields(kind):
        default = _default(f)
        shown = "required" if default is dataclasses.MISSING else repr(default)
        rows.append((f.name, _type_name(hints[f.name]), shown, _note(noted[f.name], f.default)))
    return rows


def _note(hint: Any, default: Any) -> str:
    """The description of a field, or the last string that its type is annotated with."""
    items = (*getattr(hint, "__metadata__", ()), default)
    fields = [item.description for item in items if isinstance(item, pydantic.fields.FieldInfo)]
    strings = [item for item in items[:-1] if isinstance(item, str)]
    return next(filter(None, (*reversed(fields), *reversed(strings))), "")


def one_line(error: pydantic.ValidationError) -> str:
    """A validation error as `field: message, got value; …`."""
    parts, problems = [], error.errors()
    for item in problems[:_MOST_PROBLEMS]:
        where = ".".join(str(p) for p in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        own = item["type"] in ("missing", "value_error")
        got = "" if own else f", got {displayed(item['input'])}"
        parts.append(f"{where}: {message}{got}" if where else f"{message}{got}")
    if len(problems) > _MOST_PROBLEMS:
        parts.append(f"… ({len(problems)} problems in all)")
    return "; ".join(parts)


def call_of(text: str, *, what: str) -> tuple[str, dict[str, ast.expr]]:
    """The name and the fields, not yet evaluated, of `name` or `name(field=value, …)`.

    Raises:
        EigenforgetError: The text is not of this form.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _other_form(what, text) from None
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
    if level:
        raise EigenforgetError(
            f"{what} {displayed(text)} is nested more than {_DEEPEST} levels deep; write it flatter"
        )
    return _call(tree, what, text)


def _other_form(what: str, text: str) -> EigenforgetError:
    return EigenforgetError(f"{what} {displayed(text)} is not of the form name(field=value, …)")


def _call(node: ast.expr, what: str, text: str) -> tuple[str, dict[str, ast.expr]]:
    call = ast.Call(func=node, args=[], keywords=[]) if isinstance(node, ast.Name) else node
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise _other_form(what, text)
    if call.args:
        raise EigenforgetError(
            f"{what} {displayed(text)}: fields are given by name, as in name(field=value)"
        )
    fields: dict[str, ast.expr] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in fields:
            raise EigenforgetError(f"{what} {displayed(text)}: each field is given once, by name")
        fields[keyword.arg] = keyword.value
    return call.func.id, fields


def _build(
    call: tuple[str, dict[str, ast.expr]],
    choices: Sequence[type],
    what: str,
    text: str,
    nested: Sequence[type],
) -> Any:
    fields = {key: _value(node, text, what, nested) for key, node in call[1].items()}
    return build_choice(call[0], fields, choices, what=what)


def _value(node: ast.expr, text: str, what: str, nested: Sequence[type]) -> Any:
    if isinstance(node, ast.Call):
        return _build(_call(node, what, text), nested, what, text, nested)
    if isinstance(node, ast.Tuple) and any(isinstance(item, ast.Call) for item in node.elts):
        return tuple(_value(item, text, what, nested) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        part = displayed(ast.unparse(node))
        raise EigenforgetError(
            f"{what} {displayed(text)}: {part} is not a literal (quote strings)"
        ) from None


def _checked_names(kind: type, fields: dict[str, Any], label: str) -> dict[str, Any]:
    """The fields, with those of a recipe filled in, if all of them are the class's."""
    known = [f.name for f in dataclasses.fields(kind)]
    if "recipe" in fields and "recipe" not in known:
        fields = dict(fields)
        recipes, chosen = getattr(kind, "recipes", {}), fields.pop("recipe")
        if not isinstance(chosen, str) or chosen not in recipes:
            raise EigenforgetError(
                f"{label} has no recipe {displayed(chosen)}; "
                f"its recipes: {_listing(sorted(recipes))}"
            )
        fields = {**recipes[chosen], **fields}
    for key in fields:
        if key not in known:
            raise EigenforgetError(
                f"{label} has no field {displayed(key)}{suggested(key, known)}; "
                f"its fields: {_listing(known)}"
            )
    return fields


def _check_plain(value: Any, where: str) -> None:
    """Checks that records can hold every string and number in a field's value.

    Raises:
        EigenforgetError: A float is NaN or infinite, an integer has more than 64 bits, or a string
            a NUL or half a character.
    """
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(item, float) and not math.isfinite(item):
            raise EigenforgetError(f"{where}: {item} is no finite number")
        if isinstance(item, int) and not -(2**63) <= item < 2**64:
            raise EigenforgetError(f"{where}: {displayed(item)} is an integer of more than 64 bits")
        if isinstance(item, str) and not _writable(item):
            raise EigenforgetError(
                f"{where}: {displayed(item)} holds a NUL or half of a surrogate pair, which no "
                "file and no record can hold"
            )
        if isinstance(item, (tuple, list)):
            _check_plain(item, where)


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


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
    if typing.get_origin(hint) is typing.Union:  # of an annotated type and None
        return " | ".join(map(_type_name, typing.get_args(hint))).replace("NoneType", "None")
    if inspect.isclass(hint) and not typing.get_args(hint):
        return hint.__name__
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(a) for a in typing.get_args(hint))
    return str(hint).replace("typing.", "").replace("NoneType", "None")
