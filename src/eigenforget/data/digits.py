"""Handwritten digits, bundled with scikit-learn: 1,797 grey images of 8×8 pixels in ten classes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.fields import Between01, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.data.bundle import Arrays, Data, from_arrays
from eigenforget.data.holdout import stratified
from eigenforget.data.normalisation import Normalize


@configured
class Digits:
    """Handwritten digits: inputs [N, 1, 8, 8].

    The ids are "digits/<row>" with the row in scikit-learn's set, whatever the split. Grey levels 0
    to 16 are kept as they are: normalisation cancels the scale, and stretching them to 0 to 255
    would need rounding. For a model of levels / 16 give normalize='mean=0 std=0.06274509803921569',
    which is 16 / 255. Source: UCI "Optical recognition of handwritten digits" (test part).
    """

    name: ClassVar[str] = "digits"
    test_fraction: Annotated[Between01, "share held out, stratified by class"] = 0.2
    seed: Annotated[WholeNumber, "which samples are held out"] = 0
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Loads the data."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        whole = Arrays(
            inputs=bunch.images.astype(np.uint8),
            labels=bunch.target,
            ids=[f"digits/{row}" for row in range(len(bunch.target))],
        )
        rows = stratified(bunch.target, test_fraction=self.test_fraction, seed=self.seed)
        return from_arrays(
            train=whole.rows(rows.train), test=whole.rows(rows.test), normalize=self.normalize
        )
