"""Whole classes."""

from __future__ import annotations

from eigenforget.requests import ByClass, split
from tests.requests.toys import index


def test_by_class_takes_every_sample_of_the_classes_and_no_other() -> None:
    labels = [0, 1, 2, 1, 0, 2, 2]
    assert list(split(ByClass(label=(1, 2)), index(labels)).forget) == [1, 2, 3, 5, 6]
    assert split(ByClass(label=1), index(labels)).forgotten_classes == (1,)
