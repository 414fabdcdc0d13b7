"""`eigenforget methods`: what there is, and what each field of it means."""

from __future__ import annotations

import inspect
import re

from rich.table import Table
from rich.text import Text

from eigenforget.cli.terminal import console
from eigenforget.core.spec import describe, parse, spell
from eigenforget.methods import METHODS


def list_methods(name: str) -> None:
    """`eigenforget methods`: a table of all, or the fields of one."""
    if name:
        kind = type(parse(name.split("(")[0], METHODS, "method"))
        paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
        text = "\n\n".join(" ".join(p.split()) for p in paragraphs)
        about = f"Needs: {', '.join(kind.needs)}. Guarantee: {kind.guarantee}.\nCost: {kind.passes}.\nSource: {kind.source}"
        console.print(f"{kind.name}: {text}\n\n{about}\n", highlight=False, markup=False)
        table = Table("field", "type", "default", "what it is", title=None)
        for row in describe(kind):
            table.add_row(*map(Text, row))
        console.print(table)
        for recipe, fields in getattr(kind, "recipes", {}).items():
            console.print(
                f"{kind.name}(recipe={recipe!r}) is {spell(kind(**fields))}",
                highlight=False,
                markup=False,
            )
        return
    table = Table(show_lines=True)
    for column in ("method", "needs", "guarantee", "cost in samples", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "method")
    for kind in METHODS:
        title = kind.name if kind.role == "unlearned" else f"{kind.name}\n({kind.role})"
        where = re.search(r"arXiv \d{4}\.\d{4,5}|CVPR \d{4}", kind.source)
        source = where[0] if where else kind.source.split(";")[0]
        table.add_row(
            *map(Text, (title, ", ".join(kind.needs), kind.guarantee, kind.passes, source))
        )
    console.print(table)
    console.print(
        "`eigenforget methods NAME` explains a method: its formula, fields, source and our deviations from it.",
        highlight=False,
    )
