"""Names of a package that load on first use."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from eigenforget.core.lazy import lazy_names


def test_a_name_is_loaded_once_from_where_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("toy_package")
    home = ModuleType("toy_package.home")
    home.thing = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_package", package)
    monkeypatch.setitem(sys.modules, "toy_package.home", home)
    load = lazy_names("toy_package", {"home": ("thing",)}, {"place": "home"})
    assert load("thing") is home.thing is vars(package)["thing"]
    assert load("place") is home is vars(package)["place"]
    with pytest.raises(AttributeError, match="module 'toy_package' has no attribute 'other'"):
        load("other")
