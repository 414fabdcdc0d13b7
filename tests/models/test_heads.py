"""What methods may ask of the classifier head."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.heads import check_label_range


def refusal(call) -> str:
    """The one line of the refusal."""
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_outside_the_head_are_refused():
    check_label_range(np.array([0, 9]), 10)
    for labels, line in (
        ([3, 12], "label 12 is outside the model's head of 10 outputs"),
        ([10, -1, 10], "labels -1, 10 are outside the model's head of 10 outputs"),
    ):
        assert refusal(lambda labels=labels: check_label_range(np.array(labels), 10)) == line
