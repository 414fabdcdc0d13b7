"""Finer labels inside a class."""

from __future__ import annotations

from eigenforget.requests import BySubclass, split
from tests.requests.column_toys import FINE, index


def test_a_subclass_leaves_its_class() -> None:
    found = split(BySubclass(value="a0"), index())
    assert set(FINE[found.forget]) == {"a0"} and "a0" not in FINE[found.retain]
    assert found.forgotten_classes == ()
    assert split(BySubclass(value=("a0", "a3")), index()).forgotten_classes == (0,)
    assert split(BySubclass(column="age", value=4), index()).forget.tolist() == [2]
