"""Runs the walks of docs/your-model.md as they stand there, in this process."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from eigenforget.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "your-model.md"


def walk(title: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Writes the files of a section and runs its commands, in a folder.

    Args:
        title: The heading of the section.
        folder: Where to run it; it holds the data that one has.
        patch: Changes the working directory and the path of modules.
    """
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))
    blocks = re.findall(r"```(python|bash)\n(.*?)```", section, re.DOTALL)
    for _, text in (block for block in blocks if block[0] == "python"):
        _written(folder, text)
    names: dict[str, str] = {}
    for _, text in (block for block in blocks if block[0] == "bash"):
        for line in text.splitlines():
            _run(line, names)
    for name in [n for n, m in sys.modules.items() if _is_in(m, folder)]:
        del sys.modules[name]


def check_saved(folder: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """The report is there, and the saved weights have the form of the given ones."""
    assert (folder / "results" / "report.html").stat().st_size > 10_000
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {
        k: (v.shape, v.dtype) for k, v in after.items()
    }
    assert any(not torch.equal(before[name], after[name]) for name in before)


def _is_in(module: object, folder: Path) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and folder in Path(place).parents


def _written(folder: Path, text: str) -> None:
    head, body = text.split("\n", 1)
    path = folder / head.split()[-1]
    if "further down" not in head:
        path.write_text(body)
        return
    script, entry = path.read_text().split('if __name__ == "__main__":\n')
    path.write_text(f'{script}{body}\n\nif __name__ == "__main__":\n{entry}')


def _run(line: str, names: dict[str, str]) -> None:
    """One line of a shell: an assignment, a loop over numbers, or a command."""
    if loop := re.fullmatch(r"for (\w) in ([\d ]+); do (.*); done", line):
        for value in loop[2].split():
            _run(loop[3], names | {loop[1]: value})
        return
    if assignment := re.fullmatch(r"([A-Z]+)='(.*)'", line):
        names[assignment[1]] = assignment[2]
        return
    words = [
        re.sub(r"\$(\w+?)\b", lambda found: names[found[1]], word) for word in shlex.split(line)
    ]
    if words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
    else:
        assert words[0] == "eigenforget", line
        try:
            main(words[1:])
        except SystemExit as end:
            assert end.code == 0, line
