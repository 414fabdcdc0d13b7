"""All samples of a person or device."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Index
from eigenforget.requests import ByGroup, split
from tests.requests.column_toys import LABELS, N, index


def test_a_group_goes_with_all_its_samples() -> None:
    assert list(split(ByGroup(group="patient2"), index()).forget) == list(range(2, N, 5))
    numbered = Index(index().ids, LABELS, groups=np.arange(N) % 5)
    assert list(split(ByGroup(group=(2,)), numbered).forget) == list(range(2, N, 5))


def test_without_groups_there_is_no_group_column() -> None:
    with pytest.raises(EigenforgetError, match=r"no column 'group'; its columns: id, label$"):
        split(ByGroup(group="a"), Index(np.array(["x", "y"]), np.array([0, 1])))
