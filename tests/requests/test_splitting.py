"""The two sides of a split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import AtRandom, ByClass, ByIds, ForgetRequest, retain_sample, split
from tests.requests.toys import index

REQUESTS: list[ForgetRequest] = [
    ByClass(label=1),
    ByIds(ids=("id001", "id004")),
    AtRandom(fraction=0.3, seed=5),
    AtRandom(n=3, seed=1),
    AtRandom(fraction=0.5, label=(0, 1)),
]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=40), st.randoms(use_true_random=False))
def test_splits_are_disjoint_covering_and_order_free(labels: list[int], random: object) -> None:
    labels = [1, 0, *labels]
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    for request in REQUESTS:
        here, there = index(labels), index(labels, order=order)
        a, b = split(request, here), split(request, there)
        assert split(request, here).digest == a.digest
        assert sorted([*a.forget, *a.retain]) == list(range(len(labels)))
        assert len(a.forget) and len(a.retain)
        assert a.digest == b.digest and set(here.ids[a.forget]) == set(there.ids[b.forget])
        gone = {x for x in labels if all(labels[i] != x for i in a.retain)}
        assert set(a.forgotten_classes) == gone


def test_digest_tells_sides_apart() -> None:
    labels = [0, 1, 0, 1]
    assert (
        split(ByIds(ids=("id000",)), index(labels)).digest
        != split(ByIds(ids=("id001",)), index(labels)).digest
    )


def test_copies_on_both_sides_are_an_error_or_forgotten() -> None:
    data = index([0, 1, 0, 1], content=["a", "b", "b", "c"])
    with pytest.raises(
        EigenforgetError,
        match=r"1 samples of the retain set are identical.*: id002.*duplicates",
    ):
        split(ByIds(ids=("id001",)), data)
    assert list(split(ByIds(ids=("id001",), duplicates="forget"), data).forget) == [1, 2]
    assert list(split(ByIds(ids=("id003",)), data).forget) == [3]


def test_retain_sample_is_stratified_seeded_and_inside_retain() -> None:
    labels = np.array([0] * 100 + [1] * 40 + [2] * 3)
    retain = np.arange(0, 143, 1)
    kept = retain_sample(retain, labels, 0.1, seed=0)
    assert [int((labels[kept] == c).sum()) for c in (0, 1, 2)] == [10, 4, 1]
    assert set(kept) <= set(retain) and len(set(kept)) == len(kept)
    assert (
        list(kept)
        == list(retain_sample(retain, labels, 0.1, seed=0))
        != list(retain_sample(retain, labels, 0.1, seed=1))
    )
    assert list(retain_sample(retain, labels, 1.0, seed=0)) == list(retain)
    with pytest.raises(EigenforgetError, match="above 0 and at most 1"):
        retain_sample(retain, labels, 0.0, seed=0)
