"""Labels of two classes mixed up: which change, and that a model learns them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse, spell
from eigenforget.data import DATASETS
from eigenforget.data.confused import ConfusedData
from eigenforget.data.digits import Digits


def test_a_share_of_either_class_has_the_other_label_and_nothing_else_changes() -> None:
    clean, mixed = (
        Digits().load(),
        ConfusedData(inner=Digits(), classes=(3, 8), fraction=0.25).load(),
    )
    before, after = clean.train_index.labels, mixed.train_index.labels
    changed = np.flatnonzero(before != after)
    assert np.array_equal(np.flatnonzero(mixed.train_index.column("confused")), changed)
    for label, other in ((3, 8), (8, 3)):
        own = changed[before[changed] == label]
        assert len(own) == round(0.25 * (before == label).sum()) and set(after[own]) == {other}
    assert np.array_equal(mixed.train.labels(), after)
    assert np.array_equal(mixed.train_index.column("true_label"), before)
    assert torch.equal(mixed.train.inputs, clean.train.inputs)
    assert np.array_equal(mixed.test_index.labels, clean.test_index.labels)
    assert not mixed.test_index.column("confused").any()


def test_the_seed_decides_and_the_spec_is_read_back() -> None:
    spec = ConfusedData(inner=Digits(), classes=(1, 7), seed=1)
    assert parse(spell(spec), DATASETS, "data set") == spec
    one, two = (ConfusedData(inner=Digits(), seed=s).load().train_index for s in (0, 1))
    assert not np.array_equal(one.column("confused"), two.column("confused"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": (4, 4)}, "two classes that differ, got 4 twice"),
        ({"classes": (4, 11)}, "of the 0 training samples of class 11 rounds to none"),
        ({"fraction": 0.001}, "rounds to none: nothing would be confused"),
    ],
)
def test_what_confuses_nothing_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(EigenforgetError, match=words):
        ConfusedData(inner=Digits(), **fields).load()


def test_columns_of_these_names_are_not_written_over() -> None:
    inner = ConfusedData(inner=Digits())
    with pytest.raises(EigenforgetError, match="column confused, true_label already"):
        ConfusedData(inner=inner).load()
