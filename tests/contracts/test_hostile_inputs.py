"""A slice of the hostile inputs of `make fuzz`, always the same: nothing escapes."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from eigenforget.core.errors import EigenforgetError
from fuzz import bases
from fuzz.inputs import Figures, apart, run_inputs
from fuzz.watching import Workspace, of_call, of_command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the inputs run in a forked child")
INPUTS = 130


def _slice(folder: Path) -> Figures:
    with contextlib.redirect_stdout(None):
        bases.make(folder / "base")
    return run_inputs(folder / "base", INPUTS, minimal=False)


def test_a_slice_of_the_inputs_ends_in_one_line_or_an_answer() -> None:
    found = apart(_slice)()
    assert not found.findings, "\n\n".join(
        f"{item.target}: {item.where}\n{item.example[:1000]}\n{item.detail[-3000:]}"
        for item in found.findings
    )
    assert len(found.inputs) == 8 and sum(found.inputs.values()) >= INPUTS - 8
    # Most are refused; enough get past the first checks and come to the work.
    assert found.endings["refused"] > 40 and found.endings["reached"] > 5


class TwoLines(EigenforgetError):
    """An error of two lines, which those of the package cannot be."""

    def __str__(self) -> str:
        return "a line\nof error"


def test_what_an_escape_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "kept.txt").write_text("mine")
    space = Workspace(tmp_path / "base", tmp_path / "work")
    assert of_call(lambda: 1 / 0, space.folder).where.startswith("ZeroDivisionError")
    assert of_call(lambda: sys.exit(3), space.folder).where == "exit 3"

    def wrong(what: str) -> None:
        if what == "writes":
            Path("kept.txt").write_text("gone")
        if what == "speaks":
            print("one\ntwo", file=sys.stderr)
        raise TwoLines

    assert "several lines" in of_call(lambda: wrong(""), space.folder).where
    for what, where in (("writes", "left after refused: kept.txt"), ("speaks", "3 lines of error")):
        space.restored()
        assert (space.folder / "kept.txt").read_text() == "mine"
        monkeypatch.setattr("eigenforget.cli.app", lambda *_, what=what, **__: wrong(what))
        outcome = of_command([], space)
        assert outcome.kind == "escape" and where in outcome.where
