"""Forget requests: the laws of a split, and every wrong request."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import from_json, parse, spell
from eigenforget.core.types import Index
from eigenforget.requests import REQUESTS as KINDS
from eigenforget.requests import AtRandom, ByClass, ByIds, ForgetRequest, retain_sample, split


def index(
    labels: list[int], content: list[str] | None = None, order: np.ndarray | None = None
) -> Index:
    n = len(labels)
    order = np.arange(n) if order is None else order
    ids = np.array([f"id{i:03d}" for i in range(n)])
    kept = None if content is None else np.array(content)[order]
    return Index(ids[order], np.array(labels)[order], content=kept)


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


def test_by_class_takes_every_sample_of_the_classes_and_no_other() -> None:
    labels = [0, 1, 2, 1, 0, 2, 2]
    assert list(split(ByClass(label=(1, 2)), index(labels)).forget) == [1, 2, 3, 5, 6]
    assert split(ByClass(label=1), index(labels)).forgotten_classes == (1,)


def test_by_ids_reads_a_file_and_a_list_alike(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("id004\n\n  id001\nid004\n", encoding="utf-8")
    labels = [0, 1, 0, 1, 0, 1]
    from_file, from_list = (
        split(ByIds(path=str(path)), index(labels)),
        split(ByIds(ids=("id001", "id004")), index(labels)),
    )
    assert list(from_file.forget) == [1, 4] and from_file.digest == from_list.digest


def test_at_random_draws_the_share_and_depends_on_the_seed() -> None:
    labels = [i % 4 for i in range(200)]
    first, again, other = (split(AtRandom(fraction=0.1, seed=s), index(labels)) for s in (0, 0, 1))
    assert len(first.forget) == 20 and first.digest == again.digest != other.digest
    assert first.forgotten_classes == ()


def test_by_ids_reads_standard_input_once_and_takes_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    data = index([0, 1, 0, 1, 0, 1])
    monkeypatch.setattr(sys, "stdin", io.StringIO("id004\nid001\n"))
    assert [list(split(ByIds(path="-"), data).forget) for _ in range(2)] == [[1, 4], [1, 4]]
    monkeypatch.setattr(sys, "stdin", io.StringIO("id002\n"))
    assert list(split(ByIds(path="-", ids=("id000",)), data).forget) == [0, 2]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(
        EigenforgetError, match="cannot read the id list '-': there is no standard input"
    ):
        split(ByIds(path="-"), data)
    assert (
        ByIds(ids=["id001"])
        == ByIds(ids=("id001",))
        == parse('by_ids(ids=["id001"])', KINDS, "request")
    )  # type: ignore[arg-type]


def test_by_ids_passes_over_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfid001\r\nid002\r\n")
    assert list(split(ByIds(path=str(path)), index([0, 1, 0, 1])).forget) == [1, 2]


GOLDEN = {
    "by_class(label=1)": "f244d7934be061795e09e3d6af552ba98e308002f38fbaf5aa2686b29d1cda78",
    "by_class(label=(0, 2))": "b965ba91cde8203e9aa588517afdc35883c77d7a528cf896d570d2497fed2822",
    "by_ids(ids=('id001', 'id004'))": "977e782aa296b57b5abb8a7aff7dd93daf4e0b573ce40a8e6542b5890baaa121",
    "at_random()": "010ea1e1edb830a44ebe6822f6ccfaf402d01ebdf0e4ee00c988c77fe464a725",
    "at_random(fraction=0.3, seed=5)": "554d66213f699b6658653f5e054a0c9c3751c3a3d78c0d149b33658adf99ad26",
}


@pytest.mark.parametrize("text", GOLDEN)
def test_stored_splits_stay_valid(text: str) -> None:
    """Digests made before the requests became a package: records and checkpoints hold such."""
    data = index([i % 4 for i in range(40)])
    assert (
        data.digest() == "sha256:9f2ada5f26fe7c7a06e73802096f9fcafae017fe17be042844e0ab85dd10ca9d"
    )
    assert split(parse(text, KINDS, "request"), data).digest == f"sha256:{GOLDEN[text]}"


def test_at_random_has_one_size_and_reads_stored_specs() -> None:
    stored = {"name": "at_random", "fields": {"duplicates": "error", "fraction": 0.1, "seed": 0}}
    assert (
        AtRandom() == AtRandom(fraction=0.1) == from_json(stored, KINDS, "request") != AtRandom(n=4)
    )
    assert (
        spell(AtRandom()) == "at_random(fraction=0.1)" and spell(AtRandom(n=4)) == "at_random(n=4)"
    )
    with pytest.raises(ValueError, match="give fraction or n, not both"):
        AtRandom(fraction=0.1, n=4)


def test_at_random_draws_a_number_and_within_classes() -> None:
    labels = np.arange(40) % 4
    data = index(list(labels))
    assert list(split(AtRandom(n=12, seed=5), data).forget) == list(
        split(AtRandom(fraction=0.3, seed=5), data).forget
    )
    inside = split(AtRandom(n=4, label=2), data).forget
    assert len(inside) == 4 and set(labels[inside]) == {2}
    half = split(AtRandom(fraction=0.5, label=(1, 3)), data).forget
    assert len(half) == 10 and set(labels[half]) == {1, 3}
    assert split(AtRandom(n=10, label=2), data).digest == split(ByClass(label=2), data).digest


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
        match=r"1 retained samples are identical to forgotten ones: id002.*duplicates",
    ):
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
        (ByClass(label=10**30), "unknown class 10000"),
        (AtRandom(fraction=0.01), "forgets none of the 4"),
        (AtRandom(n=5), "n=5 is more than the 4 samples to choose from"),
        (AtRandom(n=3, label=1), "n=3 is more than the 2 samples"),
        (AtRandom(n=1, label=7), "unknown class 7"),
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
    assert (
        list(kept)
        == list(retain_sample(retain, labels, 0.1, seed=0))
        != list(retain_sample(retain, labels, 0.1, seed=1))
    )
    assert list(retain_sample(retain, labels, 1.0, seed=0)) == list(retain)
    with pytest.raises(EigenforgetError, match="above 0 and at most 1"):
        retain_sample(retain, labels, 0.0, seed=0)


def test_ids_must_be_unique() -> None:
    with pytest.raises(EigenforgetError, match="repeated: a"):
        Index(np.array(["a", "b", "a"]), np.zeros(3, dtype=int))
