"""scikit-learn's digits."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from eigenforget.core import spec
from eigenforget.data import DATASETS
from tests.data.toys import sides


def test_digits_are_scikit_learns_with_ids_that_name_their_rows():
    data = spec.parse("digits(test_fraction=0.25, seed=1)", DATASETS, "data set").load()
    original = load_digits()
    rows = {
        side: [int(i.removeprefix("digits/")) for i in index.ids]
        for side, index in sides(data).items()
    }
    assert sorted(rows["train"] + rows["test"]) == list(range(1797)) and len(rows["test"]) == 450
    assert data.input_shape == (1, 8, 8) and data.num_classes == 10
    reference = original.images[rows["train"]]
    for side, source in (("train", data.train), ("test", data.test)):
        expected = (original.images[rows[side]] - reference.mean()) / reference.std()
        np.testing.assert_allclose(source.inputs[:, 0], expected, rtol=1e-5, atol=1e-6)
        assert source.targets.tolist() == original.target[rows[side]].tolist()
