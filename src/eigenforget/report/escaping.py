"""Names that others chose, made safe for the format that they are written into."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_MARKDOWN = {c: f"\\{c}" for c in "\\`*_[]|~$#!"} | {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "@": "&#64;",
}
_ADDRESS = re.compile(r"(?i)(?<=www)\.|:(?=//)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"\textasciigrave{}",
    # After \\ a bracket would be its argument and an asterisk a part of it; two hyphens would
    # become a dash, ?` and !` other marks.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",
    "?": "{?}",
    "!": "{!}",
}
_BIDIRECTIONAL = {
    chr(code) for code in (0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def flattened(text: str) -> str:
    """The text on one line.

    Control characters, line ends and marks that change the direction of writing become spaces.
    """
    return "".join(
        " " if c in _BIDIRECTIONAL or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c
        for c in text
    ).strip()


def markdown(text: str) -> str:
    """As plain text in a markdown document or table: no markup, link, formula or HTML."""
    escaped = "".join(_MARKDOWN.get(c, c) for c in flattened(text))
    # What looks like an address becomes a link without any markup.
    return _ADDRESS.sub(lambda found: f"&#{ord(found[0])};", escaped)


def code(text: str) -> str:
    """As code in a markdown document; not for table cells, which a bar ends even within code."""
    line = flattened(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def latex(text: str) -> str:
    """As text in a LaTeX document or tabular."""
    return "".join(_LATEX.get(c, c) for c in flattened(text))


def yaml(text: str) -> str:
    """A double-quoted YAML scalar with exactly this content; only printable ASCII stays as is."""
    return '"' + "".join(map(_in_yaml, text)) + '"'


def _in_yaml(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    point = ord(character)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are markdown already, without a line end after it."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
