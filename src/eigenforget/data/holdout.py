"""A seeded, stratified split, for data that come without a test side."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed


class Holdout(NamedTuple):
    """Row numbers of the training and of the test samples, ascending."""

    train: np.ndarray
    test: np.ndarray


def stratified(labels: np.ndarray, *, test_fraction: float, seed: int) -> Holdout:
    """Divides each class in proportion into training and test rows (scikit-learn).

    A class of few samples may be left without a test sample, and one of a single sample is.

    Args:
        labels: Class labels [N].
        test_fraction: Share of test rows; there are ceil(test_fraction · N) of them, where N counts
            the samples of classes that have several.
        seed: Which rows.

    Raises:
        EigenforgetError: A side has fewer samples than there are classes, or a class has no
            training sample.
    """
    classes, counts = np.unique(labels, return_counts=True)
    single = np.isin(labels, classes[counts < 2])
    if single.any() and not single.all():
        several = np.flatnonzero(~single)
        found = stratified(labels[several], test_fraction=test_fraction, seed=seed)
        train = np.sort(np.concatenate([several[found.train], np.flatnonzero(single)]))
        return Holdout(train, several[found.test])
    if single.any():
        raise EigenforgetError(
            f"a stratified split needs two samples of each class; only one of class "
            f"{listed(classes)}"
        )
    in_test = ceil(test_fraction * len(labels))
    if min(in_test, len(labels) - in_test) < len(classes):
        raise EigenforgetError(
            f"test_fraction={test_fraction} of {len(labels)} samples gives "
            f"{len(labels) - in_test} training and "
            f"{in_test} test samples; each side needs at least one for each of the "
            f"{len(classes)} classes"
        )
    # scikit-learn takes 32-bit seeds only.
    state = seeds.derive(seed, "holdout") % 2**32
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_fraction, stratify=labels, random_state=state
    )
    missing = np.setdiff1d(classes, labels[train])
    if len(missing):
        raise EigenforgetError(
            f"test_fraction={test_fraction} leaves no training sample of class {listed(missing)}"
        )
    return Holdout(np.sort(train), np.sort(test))
