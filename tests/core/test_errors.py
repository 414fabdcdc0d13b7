"""Errors are one printable line, whatever the names in them hold."""

from __future__ import annotations

import pickle

import pytest

from eigenforget.core.errors import EigenforgetError, Refused, naming


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert str(EigenforgetError("a\n  b\x1b[2K.csv: wrong")) == r"a b\x1b[2K.csv: wrong"
    assert len(str(Refused("x" * 10**6))) < 4100
    assert str(pickle.loads(pickle.dumps(Refused("why\nnot")))) == "why not"


def test_an_error_says_once_what_it_is_about() -> None:
    for line, what, said in (
        ("it is empty", "data.csv", "data.csv: it is empty"),
        ("data.csv: it is empty", "data.csv", "data.csv: it is empty"),
        ("it is empty", "", "it is empty"),
    ):
        with pytest.raises(EigenforgetError) as caught, naming(what):
            raise EigenforgetError(line)
        assert str(caught.value) == said
    with pytest.raises(KeyError), naming("data.csv"):
        raise KeyError
