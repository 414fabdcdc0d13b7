"""What `mkdocs build` adds to the pages of this folder; nothing of it is committed.

- pages that stand elsewhere in the repository (README, changelog, benchmarks and their results);
- a page for each method, made from its class;
- a page for each command, made from its signature and docstring;
- the reference of the Python names, which mkdocstrings fills in.

Links between files of the repository become links between pages. A link to what the site does not
hold, such as a folder, becomes plain text.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import eigenforget
from eigenforget.cli import COMMAND_GROUPS, app, example_of
from eigenforget.core.spec import describe, spell
from eigenforget.methods import METHODS
from eigenforget.methods.published import PublishedRun

ROOT = Path(__file__).parent.parent
HOME = "index.md"
ELSEWHERE = ("*.md", "LICENSE", "CITATION.cff", "benchmarks/**/*", "examples/*")
"""Files outside of docs/ that are part of the site, in the places that they have here."""
SHOWN = (".md", ".svg", ".toml", ".py", ".csv", ".ipynb", ".cff", "")
_LINK = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)"
    r"|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)",
    re.DOTALL,
)
"""Code, in which nothing is a link, or a link, whose text may hold code."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the generated sections of the navigation in."""
    sections = {
        "METHODS": ["methods/index.md", *(f"methods/{kind.name}.md" for kind in METHODS)],
        "COMMANDS": ["commands/index.md", *(f"commands/{name}.md" for name in commands())],
        "PYTHON": ["python/index.md", *(f"python/{name}.md" for name in modules())],
    }
    config.nav = [
        {title: sections.get(pages, pages) if isinstance(pages, str) else pages}
        for entry in config.nav or ()
        for title, pages in entry.items()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere and those that are generated."""
    paths = {path for pattern in ELSEWHERE for path in ROOT.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        if path.suffix in SHOWN:
            where = path.relative_to(ROOT).as_posix()
            content = path.read_text(encoding="utf-8")
            name = HOME if where == "README.md" else where
            files.append(File.generated(config, name, content=content))
    generated = {**method_pages(), **command_pages(), **python_pages()}
    for name, content in generated.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    del config
    here = page.file.src_uri
    return _LINK.sub(lambda m: m[0] if m["code"] else _linked(m, here, files), markdown)


def _linked(found: re.Match[str], here: str, files: Files) -> str:
    target = found["target"]
    if not target or ":" in target or here.split("/")[0] in ("methods", "commands", "python"):
        return found[0]
    where = posixpath.normpath(posixpath.join(posixpath.dirname(_in_repository(here)), target))
    site = HOME if where == "README.md" else where.removeprefix("docs/")
    if files.get_file_from_path(site) is None:
        return found["text"]
    link = posixpath.relpath(site, posixpath.dirname(here) or ".")
    return f"{found['image']}[{found['text']}]({link}{found['anchor'] or ''})"


def _in_repository(page: str) -> str:
    if page == HOME:
        return "README.md"
    return f"docs/{page}" if (ROOT / "docs" / page).exists() else page


def method_pages() -> dict[str, str]:
    """A page for each method, and one that lists them."""
    standings = _standings()
    rows = ["| method | needs | guarantee | cost in samples |", "|---|---|---|---|"]
    pages = {}
    for kind in METHODS:
        name = f"[`{kind.name}`]({kind.name}.md)"
        name += " (control)" if kind.role == "control" else ""
        rows.append(_row(name, ", ".join(kind.needs), kind.guarantee, kind.passes))
        pages[f"methods/{kind.name}.md"] = "\n".join(method_page(kind, standings.get(kind.name)))
    about = (
        "# Methods\n\nControls are cheats that test the scores; they are never recommended. "
        "[Which method when](../guide.md#which-method-when) says what was found where.\n\n"
    )
    return {"methods/index.md": about + "\n".join(rows) + "\n", **pages}


def method_page(kind: Any, standing: str | None) -> Iterator[str]:
    """What a class says of its method: formula, settings, published runs, source, results."""
    first, _, rest = (inspect.getdoc(kind) or "").partition("\n")
    yield from (f"# `{kind.name}`", "", first, rest, "")
    yield from ("| needs | guarantee | cost in samples |", "|---|---|---|")
    yield _row(", ".join(kind.needs), kind.guarantee, kind.passes)
    yield from ("", "## Settings", "")
    yield from ("| field | type | default | what it is |", "|---|---|---|---|")
    for field, of, default, note in describe(kind):
        yield _row(f"`{field}`", f"`{of.replace(' | ', ' or ')}`", f"`{default}`", note)
    recipes = getattr(kind, "recipes", {})
    if recipes:
        yield from ("", "## Published runs", "")
    for recipe, fields in recipes.items():
        about = f": {fields}" if isinstance(fields, PublishedRun) else ""
        yield f"- `{kind.name}(recipe={recipe!r})`{about}. It is `{spell(kind(**fields))}`."
    yield from ("", "## Source", "", kind.source, "", "## Results", "")
    if standing:
        yield f"Of the scores that can tell, {standing} See the [leaderboard](../benchmarks/LEADERBOARD.md)."
    else:
        yield "It is not on the [leaderboard](../benchmarks/LEADERBOARD.md)."
    yield "[All results](../results.md), [which method when](../guide.md#which-method-when)."


def _standings() -> dict[str, str]:
    """What the leaderboard says of each method that is on it."""
    text = (ROOT / "benchmarks" / "LEADERBOARD.md").read_text(encoding="utf-8")
    rows = (re.split(r"\s*\|\s*", line) for line in text.splitlines() if line.startswith("| `"))
    return {
        row[1].split("`")[
            1
        ]: f"{row[2]} lie in the band of the retrained models, at {row[-2]} of the cost of retraining."
        for row in rows
        if row[2] != "–"
    }


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def commands() -> list[str]:
    """The names of the commands, as they are typed."""
    names = [name.replace("_", "-") for group in COMMAND_GROUPS.values() for name in group]
    return [*names, "cache"]


def command_pages() -> dict[str, str]:
    """A page for each command, and one that lists them."""
    lines = ["# Command line", ""]
    pages = {}
    for title, group in COMMAND_GROUPS.items():
        names = [name.replace("_", "-") for name in group]
        names += ["cache"] if title == list(COMMAND_GROUPS)[-1] else []
        lines += [f"## {title}", "", "| command | |", "|---|---|"]
        for name in names:
            command = app[name]
            help_text = str(command.help or inspect.getdoc(command.default_command) or "")
            lines.append(_row(f"[`{name}`]({name}.md)", help_text.partition("\n")[0]))
            pages[f"commands/{name}.md"] = _command_page(name, help_text)
        lines.append("")
    return {"commands/index.md": "\n".join(lines), **pages}


def _command_page(name: str, help_text: str) -> str:
    text = app[name].generate_docs(output_format="markdown", heading_level=1)
    text = text.replace(f"```console\n{name}", f"```console\neigenforget {name}")
    text = re.sub(r"## Table of Contents\n.*?(?=\n\*\*Commands)", "", text, flags=re.DOTALL)
    text = re.sub(r"\nExample:\n(\n|[ ]{4}.*\n)*", "\n", text)
    example = example_of(help_text) if name != "cache" else ""
    return text + (f"\n**Example**:\n\n```bash\n{example}\n```\n" if example else "")


def modules() -> dict[str, list[str]]:
    """The public names of the package by the top-level module that defines them."""
    found: dict[str, list[str]] = {}
    for name in eigenforget.__all__:
        value = getattr(eigenforget, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            module = value.__module__
            found.setdefault(module.split(".")[1], []).append(f"{module}.{name}")
    return dict(sorted(found.items()))


def python_pages() -> dict[str, str]:
    """The reference of the public names; mkdocstrings fills it in."""
    lines = ["# Python", "", "What `import eigenforget` shows, by the module that defines it.", ""]
    pages = {}
    for module, names in modules().items():
        shown = ", ".join(f"`{name.rpartition('.')[2]}`" for name in names)
        lines.append(f"- [{module}]({module}.md): {shown}")
        blocks = "\n".join(f"::: {name}\n" for name in names)
        pages[f"python/{module}.md"] = f"# eigenforget.{module}\n\n{blocks}"
    return {"python/index.md": "\n".join(lines) + "\n", **pages}
