"""`eigenforget methods`."""

from __future__ import annotations

import ast
import inspect
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
_NAME = 18
"""Columns of the longest name, so that all groups align."""


class MethodLine(NamedTuple):
    """What the list says of a method: its first sentence, and class attributes by their names."""

    summary: str
    name: str
    needs: Sequence[str]
    role: str = "unlearned"

    @classmethod
    def of(cls, kind: type[Method]) -> MethodLine:
        """The line of a class."""
        given = {field: getattr(kind, field) for field in _ATTRIBUTES}
        return cls(_summary(inspect.getdoc(kind)), **given)

    @property
    def group(self) -> str:
        """The heading under which it stands: what one must have."""
        if self.role == "control":
            return _CONTROLS
        if _WHOLE_CLASSES in self.needs:
            return "Whole classes only"
        if any("inner" in need or "parts" in need for need in self.needs):
            return "Around another method"
        retain = any(need.startswith("retain") for need in self.needs)
        if not retain:
            return "No retain set needed"
        return "Forget and retain set" if "forget" in self.needs else "Retain set alone"


_ATTRIBUTES = tuple(field for field in MethodLine._fields if field != "summary")
_WHOLE_CLASSES = "whole classes forgotten"
_CONTROLS = "Controls, which only pretend to forget"


def methods(
    name: Annotated[
        str,
        Parameter(help='show the settings of this method, or of python(path="mine.py:Mine")'),
    ] = "",
    /,
) -> None:
    """List the unlearning methods and controls, or explain one and its settings.

    Example:
        eigenforget methods muda
    """
    if name:
        from eigenforget.methods import METHODS

        own = name.startswith("python(")
        _explain(METHODS.kind(name if own else name.split("(")[0]))
        return
    groups: dict[str, list[MethodLine]] = {}
    for line in method_lines():
        groups.setdefault(line.group, []).append(line)
    for heading, lines in groups.items():
        say(f"\n{heading}:")
        table = Table.grid(padding=(0, 1), pad_edge=True)
        table.add_column(min_width=_NAME, no_wrap=True)
        table.add_column()
        for line in lines:
            table.add_row(*map(Text, (line.name, line.summary)))
        console.print(table)
    say(
        "\n`eigenforget methods NAME` explains a method: its formula, settings, cost and source, "
        "and our deviations from it."
    )


def method_lines() -> list[MethodLine]:
    """The methods in their order.

    They are read from the files without importing them, which would load torch, unless an installed
    package adds methods of its own.
    """
    if entry_points(group="eigenforget.methods"):
        from eigenforget.methods import METHODS

        return [MethodLine.of(kind) for kind in METHODS]
    tree = _tree(_FOLDER / "registry.py")
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
    node = next(n for n in _tree(file).body if isinstance(n, ast.ClassDef) and n.name == name)
    given = {
        str(ast.unparse(row.target)): ast.literal_eval(row.value)
        for row in node.body
        if isinstance(row, ast.AnnAssign)
        and row.value is not None
        and ast.unparse(row.target) in _ATTRIBUTES
    }
    return MethodLine(_summary(ast.get_docstring(node)), **given)


def _summary(doc: str | None) -> str:
    """The first line of a docstring."""
    return (doc or "").partition("\n")[0]


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _explain(kind: type[Method]) -> None:
    from eigenforget.core.spec import describe, spell
    from eigenforget.methods.published import PublishedRun

    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    text = "\n\n".join(" ".join(p.split()) for p in paragraphs)
    about = (
        f"Needs: {', '.join(kind.needs) or 'nothing'}. Guarantee: {kind.guarantee}.\n"
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
