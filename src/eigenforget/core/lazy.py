"""Names of a package that load on first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]], packages: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports what its names stand for when they are asked for.

    Args:
        package: Its full name.
        names: The names by the module within it that defines them.
        packages: Modules within it, by the names under which they are reached.
    """
    home = {name: module for module, found in names.items() for name in found}
    reached = packages or {}

    def load(name: str) -> Any:
        if name in reached:
            value: Any = importlib.import_module(f"{package}.{reached[name]}")
        elif name in home:
            value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return load
