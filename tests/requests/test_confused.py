"""Requests for the discovered share of samples whose labels were mixed up."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.confused import ConfusedData
from eigenforget.data.digits import Digits
from eigenforget.requests import ConfusedSamples, split


def test_the_request_takes_the_discovered_share() -> None:
    index = ConfusedData(inner=Digits(), classes=(3, 8), fraction=0.2).load().train_index
    rows = np.flatnonzero(index.column("confused") == 1)
    every, half = ConfusedSamples().select(index), ConfusedSamples(known=0.5).select(index)
    assert np.array_equal(every, rows) and set(index.labels[rows]) == {3, 8}
    assert len(half) == round(0.5 * len(rows)) and set(half) < set(rows)
    assert split(ConfusedSamples(), index).forgotten_classes == ()


def test_data_without_confusion_are_refused() -> None:
    with pytest.raises(EigenforgetError, match="no column 'confused'"):
        ConfusedSamples().select(Digits().load().train_index)
