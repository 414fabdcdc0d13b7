"""`eigenforget methods`."""

from __future__ import annotations

import pytest

from eigenforget.cli import main


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def test_methods_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    run("methods")
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("muda", "finetune", "random_label", "head_mask"))
    run("methods", "muda")
    explained = capsys.readouterr().out
    assert all(name in explained for name in ("alternations", "w_da", "target"))
