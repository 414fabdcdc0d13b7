"""`eigenforget methods`."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget.cli import main
from eigenforget.cli.methods import MethodLine, method_lines
from eigenforget.methods import METHODS


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def test_methods_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    run("methods")
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("muda", "finetune", "random_label", "head_mask"))
    run("methods", "muda")
    explained = capsys.readouterr().out
    assert all(name in explained for name in ("alternations", "w_da", "target"))


def test_the_list_that_is_read_from_the_files_is_that_of_the_classes() -> None:
    of_classes = [MethodLine.of(k) for k in METHODS]
    assert method_lines() == of_classes


def test_methods_explains_one_of_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text('def mine(task, *, by: float = 0.5):\n    """Ours."""\n')
    run("methods", 'python(path="mine.py:mine")')
    shown = capsys.readouterr().out
    assert shown.startswith("mine: Ours.") and "0.5" in shown
