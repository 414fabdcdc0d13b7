"""The documentation site builds without a warning: every link, anchor and reference resolves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eigenforget.cli import COMMANDS
from eigenforget.methods import METHODS

ROOT = Path(__file__).parent.parent


def test_the_site_builds_and_has_a_page_for_each_method_and_command(tmp_path: Path) -> None:
    for library in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = [f"methods/{kind.name}" for kind in METHODS]
    made += [f"commands/{name.replace('_', '-')}" for name in COMMANDS]
    for name in made:
        page = (tmp_path / name / "index.html").read_text(encoding="utf-8")
        assert f'<h1 id="{name.split("/")[1]}"' in page, name
    assert "eigenforget.methods.unlearn.unlearn" in (
        tmp_path / "python/methods/index.html"
    ).read_text(encoding="utf-8")
