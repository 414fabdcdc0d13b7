"""`eigenforget methods`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from eigenforget.cli.terminal import console, say

if TYPE_CHECKING:
    from eigenforget.methods.base import Method

_FOLDER = Path(__file__).parents[1] / "methods"


class MethodLine(NamedTuple):
    """What the list says of a method; each field is the class attribute of its name."""

    name: str
    needs: Sequence[str]
    passes: str
    source: str
    guarantee: str = "empirical"
    role: str = "unlearned"


def methods(
    name: Annotated[str, Parameter(help="show the settings of this method")] = "", /
) -> None:
    """List the unlearning methods and controls, or explain one and its settings.

    Example:
        eigenforget methods muda
    """
    if name:
        from eigenforget.methods import METHODS

        _explain(METHODS.kind(name.split("(")[0]))
        return
    table = Table(show_lines=True)
    for column in ("method", "needs", "guarantee", "cost in samples", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "method")
    for kind in method_lines():
        title = kind.name if kind.role == "unlearned" else f"{kind.name}\n({kind.role})"
        where = re.search(r"arXiv \d{4}\.\d{4,5}|CVPR \d{4}", kind.source)
        source = where[0] if where else kind.source.split(";")[0]
        cells = (title, ", ".join(kind.needs), kind.guarantee, kind.passes, source)
        table.add_row(*map(Text, cells))
    console.print(table)
    say(
        "`eigenforget methods NAME` explains a method: its formula, settings and source, and our "
        "deviations from it."
    )


def method_lines() -> list[MethodLine]:
    """The methods in their order.

    They are read from the files without importing them, which would load torch, unless an installed
    package adds methods of its own.
    """
    if entry_points(group="eigenforget.methods"):
        from eigenforget.methods import METHODS

        return [
            MethodLine(*(getattr(kind, field) for field in MethodLine._fields)) for kind in METHODS
        ]
    tree = _tree(_FOLDER / "__init__.py")
    modules = {
        alias.name: str(node.module).rpartition(".")[2]
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return [_line_of(name, _FOLDER / f"{modules[name]}.py") for name in _listed(tree)]


def _listed(tree: ast.Module) -> Iterator[str]:
    """The names of the classes in METHODS."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METHODS":
            entries = next(part for part in ast.walk(node) if isinstance(part, ast.List))
            yield from map(ast.unparse, entries.elts)


def _line_of(name: str, file: Path) -> MethodLine:
    body = next(
        node.body
        for node in _tree(file).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    return MethodLine(
        **{
            str(ast.unparse(node.target)): ast.literal_eval(node.value)
            for node in body
            if isinstance(node, ast.AnnAssign)
            and node.value is not None
            and ast.unparse(node.target) in MethodLine._fields
        }
    )


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _explain(kind: type[Method]) -> None:
    from eigenforget.core.spec import describe, spell
    from eigenforget.methods.published import PublishedRun

    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    text = "\n\n".join(" ".join(p.split()) for p in paragraphs)
    about = (
        f"Needs: {', '.join(kind.needs)}. Guarantee: {kind.guarantee}.\n"
        f"Cost: {kind.passes}.\nSource: {kind.source}"
    )
    say(f"{kind.name}: {text}\n\n{about}\n")
    table = Table("field", "type", "default", "what it is", title=None)
    for row in describe(kind):
        table.add_row(*map(Text, row))
    console.print(table)
    for recipe, fields in getattr(kind, "recipes", {}).items():
        about = f": {fields}. It" if isinstance(fields, PublishedRun) else ""
        say(f"{kind.name}(recipe={recipe!r}){about} is {spell(kind(**fields))}")
