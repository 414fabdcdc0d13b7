"""Strategies: literals that break things, specs of every registry, damaged texts and JSON."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hypothesis import strategies as st

LITERALS = (
    *("0", "1", "-1", "2", "3", "True", "False", "None", "''", "()", "[]", "{}", "...", "1j"),
    *("0.0", "-0.0", "0.5", "1.0", "1e308", "1e-320", "1e999", "-1e999", "1e999 - 1e999"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("1" * 30, "1" * 400, "1" * 5000, "1_0", "0x" + "f" * 5000, "10**30", "2**63", "nan", "inf"),
    *("b'x'", "{1}", "{'a': 1}", "{[]: 1}", "(1,)", "((((1,),),),)", "(None,)", "('a', 1)", "*x"),
    *("'\\x00'", "'\\ud800'", "'\\n'", "'\\x1b[31m'", "'[red]x[/red]'", "'\\u202e'", "'a' * 9"),
    *("'" + "a" * 5000 + "'", "'..'", "'/'", "'.'", "'-'", "'/dev/null'", "'nowhere/at/all'"),
    *("mlp()", "by_class(label=3)", "digits()", "identity()", "recipe()", "f()", "lambda: 0", "x"),
    *("'é'", "'\\u200b'", "f'{1}'", "a.b.c", "[i for i in ()]", "'x' 'y'", "`", "(", "))", "#"),
    *("(" * 300 + ")" * 300, "[" * 150 + "]" * 150, "-" * 3000 + "1", "a" + ".b" * 3000),
    *("1" + "+1" * 3000, "not " * 500 + "1", "f(x=" * 90 + "1" + ")" * 90, "x" + "[0]" * 2000),
    "masked(inner=" * 60 + "muda()" + ")" * 60,
    "(" + "1," * 20000 + ")",
)
"""What stands in the place of a value in a spec."""

NUMBERS = ("0", "-1", "1e999", "nan", "inf", "-inf", "1e-400", "1" * 400, "1" * 5000, "٣", "0x10")
WORDS = (
    *("", " ", "\t", "[red]x[/red]", "\x1b[31mfake\x1b[0m", "a\nb", "a\r\nok", "\u202eabc", "é"),
    *("a" * 300, "a" * 5000, "-", "--", "-x", ".", "..", "/", "/dev/null", "/dev/full", "\ufeff"),
    *("~", "*", "a/b/c", "../../x", "'", '"', "\\", "%s%n", "{}", "{0.__class__}", "None", "null"),
    *("/proc/self/mem", "con", "\u200b", "\u0000", "\udcff", *NUMBERS),
)
"""What stands in the place of an argument of the command line, a cell or a text in JSON."""
ODD_BYTES = (
    *(w.encode("utf-8", "surrogateescape") for w in (*WORDS, "\n", ",", '"', "}", "]", ":")),
    *(b"\xff\xfe", b"\x00" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"PK\x03\x04"),
)


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


JSON_VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 5e-324, 2**53, 2**63, -(2**70)]
    ),
    st.sampled_from([10**400, 10**30, [], {}, [[]], {"": {}}, [None], ["a", 1], {"a": None}, "ok"]),
    st.sampled_from([word for word in WORDS if "\udcff" not in word]),
    st.sampled_from(["\ud800", "sha256:" + "0" * 64, "2020-01-01T00:00:00Z", "by_class(label=3)"]),
    st.sampled_from(["muda(k=" + "1" * 400 + ")", "python(path='x.py:X')", "file:../../x"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    ),
    st.sampled_from([_nested(60), "@deep 400@", "@deep 5000@", "@digits 5000@"]),
)


def json_text(value: Any) -> str:
    """Canonical JSON text; "@deep N@" becomes N nested lists, "@digits N@" an integer."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for depth in (400, 5000):
        text = text.replace(f'"@deep {depth}@"', "[" * depth + "]" * depth)
    return text.replace('"@digits 5000@"', "1" * 5000)


def specs(
    registry: Sequence[type], pools: Mapping[str, Sequence[str | int]]
) -> st.SearchStrategy[str]:
    """Specs of a registry, from its classes' own fields: most are valid, some values are not.

    Args:
        registry: The choices.
        pools: Values by name of field, such as paths and columns that exist.
    """
    kinds = [kind for kind in registry if dataclasses.is_dataclass(kind)]
    calls = st.sampled_from(kinds).flatmap(lambda kind: _call(kind, pools, registry, depth=2))
    bare = st.sampled_from([f"{kind.name}{end}" for kind in registry for end in ("", "()")])
    return st.one_of(calls, calls, calls, damaged_text(calls), bare)


def _call(
    kind: Any, pools: Mapping[str, Sequence[str | int]], nested: Sequence[type], depth: int
) -> st.SearchStrategy[str]:
    hints = typing.get_type_hints(kind)
    needed, further = [], []
    for field in dataclasses.fields(kind):
        default: Any = field.default
        required = getattr(default, "is_required", lambda: False)() or (
            default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        value = _value(field.name, hints[field.name], pools, nested, depth)
        pair = value.map(lambda text, name=field.name: f"{name}={text}")
        (needed if required else further).append(pair)
    given = st.lists(st.one_of(further), max_size=3) if further else st.just([])
    every = st.tuples(*needed).map(list)
    # Mostly each field once; a repeated or missing one is refused by its name.
    return st.tuples(every, given).map(
        lambda both: f"{kind.name}({', '.join(dict.fromkeys(both[0] + both[1]))})"
    )


def _value(
    name: str,
    hint: Any,
    pools: Mapping[str, Sequence[str | int]],
    nested: Sequence[type],
    depth: int,
) -> st.SearchStrategy[str]:
    """Literals for a field: three of four fit its type."""
    if name in pools:
        fitting = st.sampled_from([repr(text) for text in pools[name]])
    else:
        fitting = _fitting(hint, pools, nested, depth)
    return st.one_of(fitting, fitting, fitting, st.sampled_from(LITERALS))


def _fitting(
    hint: Any, pools: Mapping[str, Sequence[str | int]], nested: Sequence[type], depth: int
) -> st.SearchStrategy[str]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _fitting(inner[0], pools, nested, depth)
    if origin is Literal:
        return st.sampled_from([repr(value) for value in inner])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_fitting(part, pools, nested, depth) for part in inner])
    if origin is tuple:
        part = _fitting(inner[0], pools, nested, depth)
        return st.lists(part, max_size=3).map(lambda items: f"({''.join(i + ', ' for i in items)})")
    simple: dict[Any, st.SearchStrategy[str]] = {
        type(None): st.just("None"),
        bool: st.sampled_from(["True", "False"]),
        int: st.integers(0, 12).map(str) | st.integers(-3, 2000).map(str),
        float: st.floats(0, 1).map(repr) | st.floats().map(repr),
        str: st.sampled_from(["'a'", "'x'", "'label'", "'digits'", "''"]),
    }
    if hint in simple:
        return simple[hint]
    if depth and len(nested):
        kinds = [kind for kind in nested if dataclasses.is_dataclass(kind)]
        return st.sampled_from(kinds).flatmap(lambda k: _call(k, pools, nested, depth - 1))
    return st.sampled_from(LITERALS)


def damaged_text(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts with a piece cut, doubled or put in."""

    def damage(given: tuple[str, int, int, str]) -> str:
        text, start, length, piece = given
        start = start % (len(text) + 1)
        return text[:start] + piece + text[start + length :]

    pieces = st.sampled_from(["", "(", ")", ",", "=", "'", '"', "\\", "\n", "#", ";", *WORDS[:20]])
    return st.tuples(texts, st.integers(0, 200), st.integers(0, 6), pieces).map(damage)


Edit = tuple[float, int, bytes]
"""(place from 0 to 1, bytes to cut there, bytes to put there)"""

EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from([0, 0, 1, 1, 2, 4, 8, 100, 10**9]),
        st.sampled_from(ODD_BYTES) | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def edited(content: bytes, edits: Sequence[Edit]) -> bytes:
    """The bytes with these edits, one after the other."""
    for place, cut, put in edits:
        at = round(place * len(content))
        content = content[:at] + put + content[at + cut :]
    return content


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths to every value in a JSON value."""
    found: list[tuple[Any, ...]] = [()]
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += [(key, *path) for path in places(inner)]
    return found


def put(value: Any, path: Sequence[Any], new: Any, how: str) -> Any:
    """A copy of a JSON value with one value replaced, removed, doubled or renamed."""
    if not path:
        return new
    copied = value.copy()
    key = path[0]
    if len(path) > 1:
        copied[key] = put(value[key], path[1:], new, how)
    elif how == "remove":
        del copied[key]
    elif how == "rename" and isinstance(copied, dict):
        copied[new if isinstance(new, str) else str(new)[:50]] = copied.pop(key)
    elif how == "double" and isinstance(copied, list):
        copied.append(copied[key])
    else:
        copied[key] = new
    return copied
