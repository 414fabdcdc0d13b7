"""Whole classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import ByClass, split
from tests.requests.toys import index


def test_by_class_takes_every_sample_of_the_classes_and_no_other() -> None:
    labels = [0, 1, 2, 1, 0, 2, 2]
    assert list(split(ByClass(label=(1, 2)), index(labels)).forget) == [1, 2, 3, 5, 6]
    assert split(ByClass(label=1), index(labels)).forgotten_classes == (1,)


def test_classes_are_named_as_people_name_them() -> None:
    named = replace(index([0, 1, 2, 1, 0]), class_names=("cat", "dog", "7"))
    for label in ("dog", ("dog",), ("dog", 1)):
        found = split(ByClass(label=label), named)
        assert list(found.forget) == [1, 3] and found.forgotten_classes == (1,)
    assert list(split(ByClass(label="7"), named).forget) == [2], "a name, not a number"
    with pytest.raises(EigenforgetError, match=r"unknown class 'dogs'.*1 \(dog\).*mean 'dog'"):
        split(ByClass(label="dogs"), named)
    with pytest.raises(EigenforgetError, match=r"unknown class 7; .*0 \(cat\)"):
        split(ByClass(label=7), named)
    with pytest.raises(EigenforgetError, match="unknown class 'cat'; the training data has cl"):
        split(ByClass(label="cat"), index([0, 1]))
    with pytest.raises(EigenforgetError, match="classes 0, 1 are all named 'cat'"):
        split(ByClass(label="cat"), replace(named, class_names=("cat", "cat", "7")))
    with pytest.raises(EigenforgetError, match="none is named"):
        split(ByClass(label=()), named)
