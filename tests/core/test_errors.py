"""Errors are one printable line, whatever the names in them hold."""

from __future__ import annotations

import pickle

from eigenforget.core.errors import EigenforgetError, Refused


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert str(EigenforgetError("a\n  b\x1b[2K.csv: wrong")) == r"a b\x1b[2K.csv: wrong"
    assert len(str(Refused("x" * 10**6))) < 4100
    assert str(pickle.loads(pickle.dumps(Refused("why\nnot")))) == "why not"
