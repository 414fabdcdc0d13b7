"""Stratified, seeded splits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from eigenforget.data.holdout import stratified
from tests.data.toys import refusal


def test_stratified_split_is_a_proportional_seeded_partition():
    labels = np.repeat([0, 1, 4], [50, 30, 20])
    rows = stratified(labels, test_fraction=0.2, seed=3)
    assert sorted([*rows.train, *rows.test]) == list(range(100))
    assert np.bincount(labels[rows.test]).tolist() == [10, 6, 0, 0, 4]
    assert (np.diff(rows.train) > 0).all() and (np.diff(rows.test) > 0).all()
    again, other = (
        stratified(labels, test_fraction=0.2, seed=3),
        stratified(labels, test_fraction=0.2, seed=4),
    )
    assert again.test.tolist() == rows.test.tolist() != other.test.tolist()
    assert (
        len(stratified(np.array([0, 0, 0, 1, 1]), test_fraction=0.3, seed=0).test) == 2
    )  # rounded up


@pytest.mark.parametrize(
    ("labels", "fraction", "line"),
    [
        ([0, 1, 2, 3], 0.5, "needs two samples of each class; only one of class 0, 1, 2, 3"),
        (
            [0, 0, 1, 1],
            0.1,
            r"test_fraction=0.1 of 4 samples gives 3 training and 1 test samples; .* the 2 classes",
        ),
        ([0, 0, 1, 1], 0.9, "gives 0 training and 4 test samples"),
        ([0] * 40 + [1] * 2, 0.9, "test_fraction=0.9 leaves no training sample of class 1"),
    ],
)
def test_impossible_splits_are_refused(labels, fraction, line):
    assert re.search(
        line, refusal(lambda: stratified(np.array(labels), test_fraction=fraction, seed=0))
    )


def test_the_only_sample_of_a_class_is_a_training_sample():
    labels = np.array([0, 7, 0, 0, 0, 1, 1])
    rows = stratified(labels, test_fraction=0.4, seed=0)
    assert 1 in rows.train and len(rows.test) == 3
    assert sorted([*rows.train, *rows.test]) == list(range(7)) and (np.diff(rows.train) > 0).all()
