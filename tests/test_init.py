"""The Python door: what `import eigenforget` shows, and that it loads nothing before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eigenforget
from eigenforget.methods import METHODS


def test_dir_shows_the_public_names_and_each_resolves() -> None:
    assert set(dir(eigenforget)) == set(eigenforget.__all__)
    for name in eigenforget.__all__:
        assert getattr(eigenforget, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        eigenforget.nothing_like_it  # noqa: B018


def test_packages_are_attributes() -> None:
    assert eigenforget.methods.MUDA is eigenforget.MUDA
    assert eigenforget.metrics.METRICS is eigenforget.METRICS
    assert eigenforget.audits.LinearProbe is eigenforget.LinearProbe
    for kind in METHODS:
        assert getattr(eigenforget.methods, kind.__name__) is kind


def test_importing_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, eigenforget; dir(eigenforget); eigenforget.record;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_type_checkers_see_what_is_loaded_on_use() -> None:
    tree = ast.parse(Path(eigenforget.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in set(eigenforget.__all__) - {"__version__"}:
        found = getattr(eigenforget, name)
        module = getattr(found, "__module__", None)
        assert seen[name], name
        if isinstance(module, str) and isinstance(found, type):
            assert module.startswith(seen[name]), name
    assert set(seen) == set(eigenforget.__all__) - {"__version__"}
    assert (Path(eigenforget.__file__).parent / "py.typed").exists()
