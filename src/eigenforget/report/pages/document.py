"""What all pages share: one template environment, and one HTML file with everything inlined."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from eigenforget.report.figures.palettes import palette_css
from eigenforget.report.findings import enumerated
from eigenforget.report.glossary import GLOSSARY_TERMS, label, meaning, unit
from eigenforget.report.table import in_units, number, percent, signed

_HERE = Path(__file__).parent
_TERM = re.compile(rf"\b(?:{'|'.join(term.name for term in GLOSSARY_TERMS)})s?\b", re.IGNORECASE)


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
    filters = (
        number,
        signed,
        percent,
        in_units,
        label,
        meaning,
        unit,
        breakable,
        linked,
        enumerated,
    )
    for written in filters:
        found.filters[written.__name__] = written
    return found


def render_document(template: str, **content: Any) -> str:
    """A page that extends base.html.jinja; the same content gives the same bytes.

    Args:
        template: The file's name in this folder.
        content: What the template shows, by name.
    """
    css, js = ((_HERE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    page = template_environment().get_template(template)
    return page.render(css=Markup(f"{css}{palette_css()}"), js=Markup(js), **content)


def breakable(name: str) -> Markup:
    """The name, escaped, with leave to break lines after underscores."""
    return Markup(escape(name).replace("_", Markup("_<wbr>")))


def linked(text: str) -> Markup:
    """The text, escaped, with the first place of each term of the glossary as a link to it."""
    seen: set[str] = set()

    def link(found: re.Match[str]) -> str:
        name = found[0].lower()
        term = next(t for t in GLOSSARY_TERMS if name in (t.name, f"{t.name}s"))
        if term.name in seen:
            return found[0]
        seen.add(term.name)
        return f'<a class="term" href="#{term.anchor}">{found[0]}</a>'

    return Markup(_TERM.sub(link, str(escape(text))))
