"""`eigenforget methods`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from eigenforget.cli.terminal import console, say
from eigenforget.core.spec import describe, spell
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.methods.published import PublishedRun


def methods(
    name: Annotated[str, Parameter(help="show the settings of this method")] = "", /
) -> None:
    """List the unlearning methods and controls, or explain one and its settings.

    Example:
        eigenforget methods muda
    """
    if name:
        _explain(METHODS.kind(name.split("(")[0]))
        return
    table = Table(show_lines=True)
    for column in ("method", "needs", "guarantee", "cost in samples", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "method")
    kinds: Sequence[type[Method]] = METHODS
    for kind in kinds:
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


def _explain(kind: type[Method]) -> None:
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
