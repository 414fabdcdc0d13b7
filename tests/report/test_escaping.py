"""Names that try to be more than a name: Markdown, LaTeX and YAML, read back."""

from __future__ import annotations

import pytest

from eigenforget.report.escaping import code, flattened, latex, markdown, yaml
from tests.report.hostile_toys import HOSTILE


def test_markdown_says_the_name_and_nothing_else() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = (
        markdown_it.MarkdownIt("gfm-like", {"linkify": False})
        if hasattr(markdown_it, "MarkdownIt")
        else None
    )
    assert parser is not None
    (inline,) = [t for t in parser.parse(markdown(HOSTILE)) if t.type == "inline"]
    assert {t.type for t in inline.children} <= {"text", "text_special"}
    assert "".join(t.content for t in inline.children) == flattened(HOSTILE)


def test_markdown_by_known_answers() -> None:
    assert markdown("a|b*c_d`e`[f](g)") == r"a\|b\*c\_d\`e\`\[f\](g)"
    assert markdown("<b> & \\ $x$ ~y~ #1 !") == r"&lt;b&gt; &amp; \\ \$x\$ \~y\~ \#1 \!"
    assert (
        markdown("http://x www.y a@b") == "http&#58;//x www&#46;y a&#64;b"
        and markdown("a\n\nb\tc") == "a  b c"
    )
    assert (
        code("by_class(label=3)") == "`by_class(label=3)`"
        and code("a`b``c") == "``` a`b``c ```"
        and code("") == "` `"
    )


LATEX_MEANING = {
    r"\textbackslash{}": "\\",
    r"\{": "{",
    r"\}": "}",
    r"\$": "$",
    r"\&": "&",
    r"\#": "#",
    r"\_": "_",
    r"\%": "%",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"{\char34}": '"',
    r"\textasciigrave{}": "`",
    "{[}": "[",
    "{]}": "]",
    "{*}": "*",
    "{-}": "-",
    "{?}": "?",
    "{!}": "!",
}


def read_latex(text: str) -> str:
    """What a reader of the LaTeX sees; fails on anything that is neither a plain character nor one
    of these commands.
    """
    found, at = "", 0
    while at < len(text):
        command = next((c for c in LATEX_MEANING if text.startswith(c, at)), None)
        assert command or text[at] not in '\\{}$&#_%~^<>|"`[]*-', text[at:]
        found += LATEX_MEANING[command] if command else text[at]
        at += len(command) if command else 1
    return found


def test_latex_says_the_name_and_nothing_else() -> None:
    every = "".join(map(chr, range(32, 127)))
    assert read_latex(latex(every)) == every.strip() and read_latex(latex(HOSTILE)) == flattened(
        HOSTILE
    )


def test_yaml_text_is_read_back() -> None:
    reader = pytest.importorskip("yaml")
    every = (
        "".join(map(chr, (*range(0x250), 0x2028, 0x2029, 0xFEFF, 0x1F600)))
        + HOSTILE
        + ": - # '''\n---\n"
    )
    assert reader.safe_load(f"- name: {yaml(every)}") == [{"name": every}]
    assert yaml('a"b\\c\n\u202e😀') == r'"a\"b\\c\x0a\u202e\U0001f600"'
