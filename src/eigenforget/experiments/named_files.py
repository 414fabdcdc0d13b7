"""Files on which a result depends because specs name them: data, and code of the user's own."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eigenforget.core.imports import path_of
from eigenforget.core.own_code import is_of_this_package, modules_beside
from eigenforget.record import file_digest


def named_files(*specs: Any) -> dict[str, str]:
    """Digests of the files that specs name, such as by_ids(path="ids.txt"), by what names them.

    Code, as of module(path="models.py:Net"), python(path="mine.py:Mine") or a choice that another
    package adds, comes with the modules that it imports from beside itself.
    """
    parts = _parts(specs)
    return _digests(item if isinstance(item, str) else _code_of(type(item)) for item in parts)


def code_files(*specs: Any) -> dict[str, str]:
    """As `named_files`, of the code alone: a field may name a file that is written."""
    return _digests(_code_of(type(item)) for item in _parts(specs) if not isinstance(item, str))


def _parts(specs: Iterable[Any]) -> Iterator[Any]:
    """The specs, those inside of them, and the strings in their fields."""
    pending = list(specs)
    while pending:
        item = pending.pop()
        if isinstance(item, (list, tuple)):
            pending += item
        elif isinstance(item, str):
            yield item
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            pending += [getattr(item, field.name) for field in dataclasses.fields(item)]
            yield item


def _digests(texts: Iterable[str]) -> dict[str, str]:
    files = {name: file for text in texts for name, file in _of_text(text).items()}
    return {name: file_digest(file) for name, file in sorted(files.items())}


def _code_of(kind: type) -> str:
    """Where the code of a class is; "" for one of ours."""
    if path := path_of(kind):
        return path
    return "" if is_of_this_package(kind) else f"{kind.__module__}:{kind.__name__}"


def _of_text(text: str) -> dict[str, Path]:
    """The files that a text names: data, or code as "file.py:Name" or "package.module:Name"."""
    before = text.rpartition(":")[0]
    for name in (text, before):
        # A text may be anything; what is too long or has a NUL in it is no file.
        if 0 < len(name) < 1024 and "\0" not in name and os.path.isfile(name):
            return {text: Path(name), **_beside(text, Path(name))}
    module = sys.modules.get(before)
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return {}
    return {text: Path(file), **_beside(text, Path(file), getattr(module, "__package__", "") or "")}


def _beside(text: str, file: Path, package: str = "") -> dict[str, Path]:
    if file.suffix != ".py":
        return {}
    found = modules_beside(file.resolve(), package)
    return {f"{text} imports {name}": other for name, other in found.items()}
