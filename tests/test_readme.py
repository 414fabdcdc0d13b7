"""README.md: short, its commands first, and its Python prints what stands below it.

After an intended change: `python -m pytest tests/test_readme.py --rewrite-golden`.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<output>.*?)```", re.DOTALL)


def test_it_is_short_and_begins_with_the_picture_and_the_two_commands() -> None:
    lines = PATH.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    first_screen = "\n".join(lines[:25])
    assert all(
        text in first_screen for text in ("![", "\nmake demo", "\nmake test", "\npip install")
    )


def test_its_table_is_one_that_a_stranger_understands() -> None:
    table = (
        PATH.read_text(encoding="utf-8").split("<!-- table: cifar10 -->")[1].split("<!-- end")[0]
    )
    head, _, *rows = table.strip().splitlines()
    assert len(rows) == 5 and head.count("|") == 6


@pytest.mark.long
def test_its_python_prints_what_stands_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    page = PATH.read_text(encoding="utf-8")
    block = BLOCK.search(page)
    assert block
    lines = [line for line in block["code"].splitlines() if line]
    assert len(lines) <= 11 and max(map(len, lines)) <= 88  # an import and ten lines
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block["code"], str(PATH), "exec"), {"__name__": "readme"})
    if request.config.getoption("--rewrite-golden"):
        start, end = block.span("output")
        PATH.write_text(page[:start] + printed.getvalue() + page[end:], encoding="utf-8")
        return
    # Numbers differ from run to run and from one processor to another, and wording may change:
    # what has to hold is the verdict, and that it is explained.
    stated, found = (text.splitlines() for text in (block["output"], printed.getvalue()))
    assert found[0].partition(", cost:")[0] == stated[0].partition(", cost:")[0]
    assert len(found) == len(stated)
