"""Names of a package that load on first use."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import ModuleType

import pytest

from eigenforget.core.lazy import lazy_names, loaded


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


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_waits_while_a_module_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, collects: bool, fails: bool
) -> None:
    name = f"toy_loaded_{collects}_{fails}".lower()
    (tmp_path / f"{name}.py").write_text(
        f"import gc\nseen = gc.isenabled()\nassert {not fails}, 'broken'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = gc.isenabled()
    try:
        gc.enable() if collects else gc.disable()
        if fails:
            with pytest.raises(AssertionError, match="broken"):
                loaded(name)
        else:
            assert not loaded(name).seen
        assert gc.isenabled() == collects
    finally:
        gc.enable() if before else gc.disable()
        sys.modules.pop(name, None)
