"""The two sides of a split."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import TensorSource
from eigenforget.requests import AtRandom, ByClass, ByIds, ForgetRequest, retain_sample, split
from eigenforget.requests.combined import Union
from eigenforget.requests.sequential import Sequential, steps
from eigenforget.requests.splitting import settled_classes
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
        taken, left = ({labels[i] for i in side} for side in (a.forget, a.retain))
        named = {1} if isinstance(request, ByClass) else set()
        assert set(a.forgotten_classes) == (taken - left if not taken & left else named)


def test_a_rare_class_that_a_request_happens_to_take_is_not_gone_as_a_whole() -> None:
    data = index([0, 0, 0, 0, 1, 2, 2])
    both = ("id000", "id004")
    with pytest.warns(UserWarning, match="by_ids takes every sample of class 1 beside"):
        assert split(ByIds(ids=both), data).forgotten_classes == ()
    named = Union(requests=(ByIds(ids=("id000",)), ByClass(label=1)))
    consists = Union(requests=(ByIds(ids=("id000",)), ByIds(ids=("id004",))))
    for request in (named, consists):
        assert split(request, data).forgotten_classes == (1,)
    assert split(ByIds(ids=("id004", "id005", "id006")), data).forgotten_classes == (1, 2)
    sequence = Sequential(requests=(ByClass(label=1), ByIds(ids=("id000",))))
    assert [step.split.forgotten_classes for step in steps(sequence, data)] == [(1,), (1,)]


def test_copies_take_other_labels_with_them_and_the_named_class_is_gone() -> None:
    data = index([0, 1, 0, 0], content=["a", "a", "b", "c"])
    assert split(ByClass(label=1, duplicates="forget"), data).forgotten_classes == (1,)


@pytest.mark.parametrize(
    ("forget", "retain", "given", "found"),
    [
        ([2, 2], [0, 1] * 8, None, (2,)),
        ([0, 1], [0, 1], None, ()),
        ([2, 2], [0, 1], (), ()),
        ([2, 2], [0, 1], [np.int64(2)], (2,)),
        ([0, 2], [0, 1], [np.int64(2)], (2,)),
    ],
)
def test_classes_that_are_gone_follow_where_there_is_no_doubt(
    forget: list[int],
    retain: list[int],
    given: Any,
    found: tuple[int, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="eigenforget"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settled_classes(_labelled(forget), _labelled(retain), given) == found
    assert ("class 2" in caplog.text) == (given is None and found == (2,))


def test_a_doubt_about_classes_is_a_warning_that_names_them() -> None:
    forget, retain = _labelled([0, 2, 7]), _labelled([0, 1])
    with pytest.warns(UserWarning, match=r"classes 2, 7.*forgotten_classes=\(2, 7\)"):
        assert settled_classes(forget, retain, None) == ()
    assert settled_classes(forget, None, None) == ()
    with pytest.raises(EigenforgetError, match=r"1\.5"):
        settled_classes(forget, retain, [1.5])  # type: ignore[list-item]


def test_a_few_retained_samples_may_lack_a_class_by_chance() -> None:
    forget = _labelled([2, 2])
    with pytest.warns(EigenforgetWarning, match=r"15 samples of 2 classes.*by chance.*\(2,\)"):
        assert settled_classes(forget, _labelled([0, 1] * 7 + [0]), None) == (2,)


def test_a_class_that_the_retain_set_has_is_not_gone() -> None:
    with pytest.raises(EigenforgetError, match="class 0 has 2 samples in the retain set"):
        settled_classes(_labelled([2, 2]), _labelled([0, 0, 1]), [2, 0])
    # An earlier request took class 3: neither set has samples of it.
    assert settled_classes(_labelled([2, 2]), _labelled([0, 1]), [2, 3]) == (2, 3)


def _labelled(labels: list[int]) -> TensorSource:
    return TensorSource(torch.zeros(len(labels), 1), torch.tensor(labels))


def test_digest_tells_sides_apart() -> None:
    labels = [0, 1, 0, 1]
    assert (
        split(ByIds(ids=("id000",)), index(labels)).digest
        != split(ByIds(ids=("id001",)), index(labels)).digest
    )


@pytest.mark.parametrize(
    "wrong", [("by_class(label=3)", index([0, 1])), (ByClass(label=0), [1, 2])]
)
def test_what_is_no_request_or_no_index_is_one_line(wrong: Any) -> None:
    with pytest.raises(EigenforgetError, match=r"ByClass\(label=3\).*got (str|ByClass) and "):
        split(*wrong)


def test_copies_on_both_sides_are_an_error_or_forgotten() -> None:
    data = index([0, 1, 0, 1], content=["a", "b", "b", "c"])
    with pytest.raises(
        EigenforgetError,
        match=r"1 sample of the retain set is identical.*: id002.*duplicates",
    ):
        split(ByIds(ids=("id001",)), data)
    assert list(split(ByIds(ids=("id001",), duplicates="forget"), data).forget) == [1, 2]
    assert list(split(ByIds(ids=("id003",)), data).forget) == [3]


def test_retain_sample_is_stratified_seeded_and_inside_retain() -> None:
    labels = np.array([0] * 100 + [1] * 40 + [2] * 3)
    retain = np.arange(0, 143, 1)
    kept = retain_sample(retain, labels=labels, fraction=0.1, seed=0)
    assert [int((labels[kept] == c).sum()) for c in (0, 1, 2)] == [10, 4, 1]
    assert set(kept) <= set(retain) and len(set(kept)) == len(kept)
    assert (
        list(kept)
        == list(retain_sample(retain, labels=labels, fraction=0.1, seed=0))
        != list(retain_sample(retain, labels=labels, fraction=0.1, seed=1))
    )
    assert list(retain_sample(retain, labels=labels, fraction=1.0, seed=0)) == list(retain)
    with pytest.raises(EigenforgetError, match="above 0 and at most 1"):
        retain_sample(retain, labels=labels, fraction=0.0, seed=0)


class Mine:
    """A request of the user's own, which gives what it is made with."""

    name = "mine"
    duplicates = "error"

    def __init__(self, given: Any) -> None:
        self.given = given

    def select(self, data: Any) -> Any:
        del data
        return self.given


@pytest.mark.parametrize("given", [[0, 2], (2, 0, 0), np.array([True, False, True, False])])
def test_a_request_of_ones_own_gives_positions_or_a_mask(given: Any) -> None:
    assert split(Mine(given), index([0, 1, 0, 1])).forget.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("abc", "got 'abc'"),
        (None, "got None"),
        ([0.5], r"got \[0.5\]"),
        ([True], r"got \[True\]"),
        ([[0], [1, 2]], r"got \[\[0\]"),
        ([-1], "gives position -1"),
        ([0, 4], "gives position 4; .* 0 to 3"),
    ],
)
def test_anything_else_is_one_line(given: Any, named: str) -> None:
    with pytest.raises(EigenforgetError, match=f"mine.*{named}"):
        split(Mine(given), index([0, 1, 0, 1]))
