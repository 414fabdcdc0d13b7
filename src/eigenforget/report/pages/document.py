"""What all pages share: one template environment, and one HTML file with everything inlined."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from eigenforget.report.glossary import label, meaning, unit
from eigenforget.report.table import in_units, number, percent, signed

_HERE = Path(__file__).parent


@cache
def template_environment() -> jinja2.Environment:
    """The templates of this folder, with the filters that write numbers and names of scores."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for written in (number, signed, percent, in_units, label, meaning, unit, breakable):
        found.filters[written.__name__] = written
    return found


def render_document(template: str, **content: Any) -> str:
    """A page that extends base.html.jinja; the same content gives the same bytes.

    Args:
        template: The file's name in this folder.
        content: What the template shows, by name.
    """
    css, js = (Markup((_HERE / f"page.{kind}").read_text("utf-8")) for kind in ("css", "js"))
    page = template_environment().get_template(template)
    return page.render(css=css, js=js, plotly=Markup(get_plotlyjs()), **content)


def breakable(name: str) -> Markup:
    """The name, escaped, with leave to break lines after underscores."""
    return Markup(escape(name).replace("_", Markup("_<wbr>")))
