"""Names of a package that load on first use, and how modules load faster."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


def loaded(module: str) -> ModuleType:
    """The module of this name; the garbage collector waits while it loads.

    Loading leaves next to nothing to collect, and to find that the collector would walk through all
    objects of torch several times: a quarter of the time of our own modules.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if collects:
            gc.enable()


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
            value: Any = loaded(f"{package}.{reached[name]}")
        elif name in home:
            value = getattr(loaded(f"{package}.{home[name]}"), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return load
