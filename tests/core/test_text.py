"""Lists of values and words."""

from __future__ import annotations

import pytest

from eigenforget.core.text import as_line, displayed, first_line, joined, listed, suggested


@pytest.mark.parametrize(
    ("words", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_words_are_joined_as_in_a_sentence(words: list[str], text: str) -> None:
    assert joined(words) == text
    assert joined(words, "or") == text.replace(" and ", " or ")


def test_long_lists_are_cut_and_counted() -> None:
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(12), 2) == "0, 1, … (12 in all)"


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_values_in_messages_are_short_and_printable() -> None:
    assert displayed("a\nb\x1b") == r"'a\nb\x1b'" and displayed(3.5) == "3.5"
    cut = displayed("a" * 70 + "b" * 70)
    assert cut.startswith("'aaa") and "bbb' (142 characters)" in cut and len(cut) < 150
    assert displayed(10**5000) == "a huge int of 16610 bits"
    assert displayed((10**5000,)) == "a huge tuple"


def test_a_printed_line_is_one_line() -> None:
    assert as_line("a\r\nb \x1b[2K\u202ec") == r"a b \x1b[2K\u202ec"
    assert len(as_line("x" * 10**5)) < 2050


def test_a_misspelt_word_is_answered_with_what_is_near() -> None:
    known = ["muda", "scrub", "mud"]
    assert suggested("mudda", known) == " (did you mean muda?)"
    assert suggested("mudda", known, most=2) == " (did you mean muda or mud?)"
    assert suggested("mudda", known, least=0.95) == suggested("x" * 10**6, known) == ""
