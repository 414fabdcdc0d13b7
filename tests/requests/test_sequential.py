"""Deletions one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import (
    ByClass,
    ByIds,
    Sequential,
    Union,
    Where,
    split,
    steps,
)
from tests.requests.combined_toys import DATA, N, chosen, index, nested


@settings(max_examples=60, deadline=None)
@given(st.lists(nested, min_size=1, max_size=4))
def test_the_last_step_is_the_union(requests: list[Any]) -> None:
    assume(all(chosen(r) for r in requests) and len(set().union(*map(chosen, requests))) < N)
    found = steps(Sequential(requests=tuple(requests), again="skip"), DATA)
    whole = split(Union(requests=tuple(requests)), DATA)
    assert (
        found[-1].split.digest == whole.digest
        and found[-1].split.forgotten_classes == whole.forgotten_classes
    )
    new = [set(step.new.tolist()) for step in found]
    assert sum(map(len, new)) == len(set().union(*new)) == len(whole.forget)  # disjoint
    for number, step in enumerate(found, 1):
        assert step.request == requests[number - 1]
        assert step.split.digest == split(Union(requests=tuple(requests[:number])), DATA).digest
        assert set(step.split.forget.tolist()) == set().union(*new[:number])


def test_a_plain_request_is_one_step() -> None:
    (only,) = steps(ByClass(label=2), DATA)
    whole = split(ByClass(label=2), DATA)
    assert (
        only.split.digest == whole.digest
        and list(only.new) == list(whole.forget)
        and only.request == ByClass(label=2)
    )


def test_asking_again_is_an_error_or_passed_over() -> None:
    first, again = ByClass(label=1), ByIds(ids=("id001", "id002", "id006"))
    with pytest.raises(
        EigenforgetError,
        match=r'step 2 \(by_ids\): 2 samples were already forgotten.*: id001, id006; say again="skip"',
    ):
        steps(Sequential(requests=(first, again)), DATA)
    found = steps(Sequential(requests=(first, again, ByClass(label=1)), again="skip"), DATA)
    assert [list(step.new) for step in found] == [list(range(1, N, 5)), [2], []]
    late = Where(column="age", op="<", value=25)
    with pytest.raises(
        EigenforgetError, match=r"25 samples were .*: id000, .*id009, … \(25 in all\)"
    ):
        steps(Sequential(requests=(late, late)), DATA)


def test_steps_name_the_one_that_is_wrong() -> None:
    with pytest.raises(EigenforgetError, match=r"step 2 \(by_class\): unknown class 9"):
        steps(Sequential(requests=(ByClass(label=1), ByClass(label=9))), DATA)
    with pytest.raises(EigenforgetError, match=r"step 2 \(where\) forgets none"):
        steps(Sequential(requests=(ByClass(label=1), Where(column="age", value=99))), DATA)
    with pytest.raises(EigenforgetError, match=r"step 2 \(by_class\) forgets all 30"):
        steps(Sequential(requests=(ByClass(label=(0, 1)), ByClass(label=(2, 3, 4)))), DATA)
    with pytest.raises(EigenforgetError, match=r"^by_class forgets all 30"):
        steps(ByClass(label=(0, 1, 2, 3, 4)), DATA)
    with pytest.raises(
        EigenforgetError, match=r"sequence is several deletions.*steps\(\) makes their splits"
    ):
        split(Sequential(requests=(ByClass(label=1),)), DATA)  # type: ignore[arg-type]


def test_a_step_may_not_leave_copies_for_a_later_one() -> None:
    content = [f"c{i:02d}" for i in range(N)]
    content[7] = content[1]
    data, first, second = index(content=content), ByIds(ids=("id001",)), ByIds(ids=("id007",))
    with pytest.raises(
        EigenforgetError,
        match=r"step 1 \(by_ids\): 1 sample of the retain set is identical.*: id007",
    ):
        steps(Sequential(requests=(first, second)), data)
    every = ByIds(ids=("id001",), duplicates="forget")
    with pytest.raises(EigenforgetError, match=r"step 2 .*already forgotten.*id007"):
        steps(Sequential(requests=(every, second)), data)
    assert [
        list(s.new) for s in steps(Sequential(requests=(every, second), again="skip"), data)
    ] == [[1, 7], []]
