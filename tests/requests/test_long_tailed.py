"""A forget set with a long tail: its profile, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import LongTailed, split
from eigenforget.requests.long_tailed import tail_counts
from tests.requests.toys import index

LABELS = [c for c in range(5) for _ in range(200)]


@pytest.mark.parametrize(("n", "ratio"), [(5, 10.0), (100, 1.0), (300, 10.0), (333, 50.0)])
def test_the_counts_follow_the_exponential_profile_and_add_up(n: int, ratio: float) -> None:
    counts = tail_counts(n, classes=5, ratio=ratio)
    exact = np.array([ratio ** (-i / 4) for i in range(5)])
    assert sum(counts) == n and min(counts) >= 1 and counts == sorted(counts, reverse=True)
    assert np.allclose(np.array(counts) - 1, (n - 5) * exact / exact.sum(), atol=1.0)


def test_the_classes_have_these_counts_whatever_the_order() -> None:
    given = index(LABELS)
    chosen = LongTailed(n=300, ratio=20.0, seed=3).select(given)
    counts = np.bincount(given.labels[chosen], minlength=5)
    assert sorted(counts.tolist(), reverse=True) == tail_counts(300, classes=5, ratio=20.0)
    order = np.random.default_rng(0).permutation(len(LABELS))
    moved = index(LABELS, order=order)
    again = LongTailed(n=300, ratio=20.0, seed=3).select(moved)
    assert set(moved.ids[again]) == set(given.ids[chosen])
    assert set(LongTailed(n=300, ratio=20.0).select(given)) != set(chosen)
    assert split(LongTailed(n=300), given).forgotten_classes == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 4}, "n=4 is fewer than the 5 classes"),
        ({"n": 1001}, "n=1001 is more than the 1000 samples"),
        ({"n": 600, "ratio": 1000.0}, "has 200 samples and"),
    ],
)
def test_a_profile_that_the_data_cannot_give_is_refused(fields: dict, words: str) -> None:
    with pytest.raises(EigenforgetError, match=words):
        LongTailed(**fields).select(index(LABELS))


def test_a_ratio_below_1_is_no_tail() -> None:
    with pytest.raises(EigenforgetError, match="ratio"):
        LongTailed(n=10, ratio=0.5)
