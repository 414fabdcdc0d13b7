"""The notebooks in examples/ run from their first cell to their last.

Their stored outputs are those of `python -m pytest tests/test_notebooks.py --rewrite-golden`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


def run(code: str, space: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell: what it prints, and the value of an expression at its end."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, outputs = io.StringIO(), []
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), space)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), space) if last else None
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        shown = {"text/plain": repr(value)}
        if hasattr(value, "_repr_markdown_"):
            shown["text/markdown"] = value._repr_markdown_()
        data = {kind: text.splitlines(keepends=True) for kind, text in shown.items()}
        outputs.append(
            {"output_type": "execute_result", "execution_count": None, "data": data, "metadata": {}}
        )
    return outputs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    space: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        outputs = run("".join(cell["source"]), space)
        assert [o["output_type"] for o in outputs] == [
            o["output_type"] for o in cell["outputs"]
        ] or request.config.getoption("--rewrite-golden")
        cell["outputs"] = outputs
    if request.config.getoption("--rewrite-golden"):
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")


def test_comparing_for_a_paper_takes_twelve_cells() -> None:
    notebook = json.loads(
        next(p for p in NOTEBOOKS if p.stem == "compare_methods").read_text(encoding="utf-8")
    )
    assert sum(cell["cell_type"] == "code" for cell in notebook["cells"]) <= 12
