"""Forget requests: the laws of a split, and every wrong request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.requests import AtRandom, ByClass, ByIds, ForgetRequest, retain_sample, split
from eigenforget.types import EigenforgetError, Index


def index(labels: list[int], content: list[str] | None = None, order: np.ndarray | None = None) -> Index:
    n = len(labels)
    order = np.arange(n) if order is None else order
    ids = np.array([f"id{i:03d}" for i in range(n)])
    kept = None if content is None else np.array(content)[order]
    return Index(ids[order], np.array(labels)[order], content=kept)


REQUESTS: list[ForgetRequest] = [ByClass(label=1), ByIds(ids=("id001", "id004")), AtRandom(fraction=0.3, seed=5)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=40), st.randoms(use_true_random=False))
def test_splits_are_disjoint_covering_and_order_free(labels: list[int], random: object) -> None:
    labels = [1, 0, *labels]
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    for request in REQUESTS:
        here, there = index(labels), index(labels, order=order)
        a, b = split(request, here), split(request, there)
        assert sorted([*a.forget, *a.retain]) == list(range(len(labels)))
        assert len(a.forget) and len(a.retain)
        assert a.digest == b.digest and set(here.ids[a.forget]) == set(there.ids[b.forget])
        gone = {x for x in labels if all(labels[i] != x for i in a.retain)}
        assert set(a.forgotten_classes) == gone


def test_by_class_takes_every_sample_of_the_classes_and_no_other() -> None:
    labels = [0, 1, 2, 1, 0, 2, 2]
    assert list(split(ByClass(label=(1, 2)), index(labels)).forget) == [1, 2, 3, 5, 6]
    assert split(ByClass(label=1), index(labels)).forgotten_classes == (1,)


def test_by_ids_reads_a_file_and_a_list_alike(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("id004\n\n  id001\nid004\n", encoding="utf-8")
    labels = [0, 1, 0, 1, 0, 1]
    from_file, from_list = split(ByIds(path=str(path)), index(labels)), split(ByIds(ids=("id001", "id004")), index(labels))
    assert list(from_file.forget) == [1, 4] and from_file.digest == from_list.digest


def test_at_random_draws_the_share_and_depends_on_the_seed() -> None:
    labels = [i % 4 for i in range(200)]
    first, again, other = (split(AtRandom(fraction=0.1, seed=s), index(labels)) for s in (0, 0, 1))
    assert len(first.forget) == 20 and first.digest == again.digest != other.digest
    assert first.forgotten_classes == ()


def test_digest_tells_sides_apart() -> None:
    labels = [0, 1, 0, 1]
    assert split(ByIds(ids=("id000",)), index(labels)).digest != split(ByIds(ids=("id001",)), index(labels)).digest


def test_copies_on_both_sides_are_an_error_or_forgotten() -> None:
    data = index([0, 1, 0, 1], content=["a", "b", "b", "c"])
    with pytest.raises(EigenforgetError, match=r"1 retained samples are identical to forgotten ones: id002.*duplicates"):
        split(ByIds(ids=("id001",)), data)
    assert list(split(ByIds(ids=("id001",), duplicates="forget"), data).forget) == [1, 2]
    assert list(split(ByIds(ids=("id003",)), data).forget) == [3]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ByClass(label=7), "unknown class 7; the training data has classes: 0, 1"),
        (ByClass(label=(0, 1)), "forgets all 4 training samples"),
        (ByClass(label=()), "unknown class"),
        (ByIds(), "selects nothing"),
        (ByIds(ids=("x", "id000")), "ids not in the training data: x"),
        (ByIds(ids=tuple(f"x{i}" for i in range(30))), r"x9, … \(30 in all\)"),
        (ByIds(path="missing.txt"), "cannot read the id list 'missing.txt'"),
        (AtRandom(fraction=0.01), "forgets none of the 4"),
        (AtRandom(fraction=0.99), "forgets all 4"),
    ],
)
def test_wrong_requests(request_: ForgetRequest, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        split(request_, index([0, 1, 0, 1]))


def test_retain_sample_is_stratified_seeded_and_inside_retain() -> None:
    labels = np.array([0] * 100 + [1] * 40 + [2] * 3)
    retain = np.arange(0, 143, 1)
    kept = retain_sample(retain, labels, 0.1, seed=0)
    assert [int((labels[kept] == c).sum()) for c in (0, 1, 2)] == [10, 4, 1]
    assert set(kept) <= set(retain) and len(set(kept)) == len(kept)
    assert list(kept) == list(retain_sample(retain, labels, 0.1, seed=0)) != list(retain_sample(retain, labels, 0.1, seed=1))
    assert list(retain_sample(retain, labels, 1.0, seed=0)) == list(retain)
    with pytest.raises(EigenforgetError, match="above 0 and at most 1"):
        retain_sample(retain, labels, 0.0, seed=0)


def test_ids_must_be_unique() -> None:
    with pytest.raises(EigenforgetError, match="repeated: a"):
        Index(np.array(["a", "b", "a"]), np.zeros(3, dtype=int))
