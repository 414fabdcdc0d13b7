"""Union and difference obey the laws of sets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import as_json, from_json, parse, spell
from eigenforget.requests import (
    REQUESTS,
    AtRandom,
    ByClass,
    ByIds,
    Difference,
    ForgetRequest,
    Sequential,
    Union,
    split,
)
from tests.requests.combined_toys import DATA, N, chosen, index, nested

PLANS: list[type] = [*REQUESTS, Sequential]


def union(*requests: ForgetRequest) -> Union:
    return Union(requests=requests)


@settings(max_examples=60, deadline=None)
@given(nested, nested, nested)
def test_requests_obey_the_laws_of_sets(a: Any, b: Any, c: Any) -> None:
    assert chosen(union(a, b)) == chosen(a) | chosen(b) == chosen(union(b, a))
    assert chosen(union(union(a, b), c)) == chosen(union(a, union(b, c))) == chosen(union(a, b, c))
    assert chosen(union(a, a)) == chosen(union(a)) == chosen(a)
    assert chosen(Difference(of=a, without=b)) == chosen(a) - chosen(b)
    assert chosen(union(a, Difference(of=a, without=b))) == chosen(a)  # absorption
    assert chosen(union(Difference(of=a, without=b), b)) == chosen(union(a, b))
    assert chosen(Difference(of=a, without=union(b, c))) == chosen(
        Difference(of=Difference(of=a, without=b), without=c)
    )


@settings(max_examples=30, deadline=None)
@given(nested, st.permutations(range(N)))
def test_nested_requests_are_order_free_and_give_true_splits(
    request: Any, order: list[int]
) -> None:
    there = index(order)
    assert chosen(request) == chosen(request, there)
    assume(0 < len(chosen(request)) < N)
    a, b = split(request, DATA), split(request, there)
    assert (
        a.digest == b.digest == split(request, DATA).digest
        and a.forgotten_classes == b.forgotten_classes
    )
    assert sorted([*a.forget, *a.retain]) == list(range(N))
    assert (
        split(ByIds(ids=tuple(DATA.ids[a.forget])), DATA).digest == a.digest
    )  # idempotent: its ids select the same again


@settings(max_examples=60, deadline=None)
@given(nested, st.lists(nested, min_size=1, max_size=3))
def test_nested_specs_round_trip(request: Any, more: list[Any]) -> None:
    for value in (request, Sequential(requests=tuple(more), again="skip")):
        assert parse(spell(value), PLANS, "request") == value
        assert from_json(as_json(value), PLANS, "request") == value
        assert spell(parse(spell(value), PLANS, "request")) == spell(value)


def test_specs_as_a_user_writes_them() -> None:
    text = "union(requests=(by_class(label=3), at_random(n=5)))"
    made = parse(text, REQUESTS, "request")
    assert made == Union(requests=(ByClass(label=3), AtRandom(n=5))) and spell(made) == text
    one = parse("union(requests=(by_class(label=3)))", REQUESTS, "request")
    assert (
        one.requests == (ByClass(label=3),) and spell(one) == "union(requests=(by_class(label=3),))"
    )
    assert Union(requests=[ByClass(label=3)]) == one  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("union(requests=())", "at least one request is needed"),
        (
            "union(requests=(by_class(label=1), 'a'))",
            "a request is needed, such as by_class\\(label=3\\), got 'a'",
        ),
        ("difference(of=by_class(label=1), without=3)", "without: a request is needed"),
        ("difference(of=by_class(label=1))", "without: Field required"),
        (
            "union(requests=(by_klass(label=1),))",
            "unknown request 'by_klass' \\(did you mean by_class\\?\\)",
        ),
        (
            "union(requests=(sequence(requests=(by_class(label=1),)),))",
            "several deletions, one after the other",
        ),
        ("sequence(requests=(by_class(label=1),), again='no')", "again: .*'error' or 'skip'"),
        ("at_random(fraction=0.2, n=3)", "give fraction or n, not both"),
        ("where(column='x', op='in', value=3)", "takes a tuple"),
        ("where(column='x', op='==', value=(3,))", "takes a tuple"),
        ("where(column='x', op='in', value=())", "value of 'in' is empty"),
        ("where(column='x', op='contains', value='')", "value of 'contains' is empty"),
        ("where(column='x', value=1e999)", "inf is no finite number"),
        ("where(column='x', op='~', value=1)", "op: "),
    ],
)
def test_wrong_specs_are_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message) as caught:
        parse(text, PLANS, "request")
    assert "\n" not in str(caught.value)


def test_copies_go_with_the_part_that_says_so() -> None:
    content = [f"c{i:02d}" for i in range(N)]
    content[7] = content[21] = content[1]
    data = index(content=content)
    one, all_copies = ByIds(ids=("id001",)), ByIds(ids=("id001",), duplicates="forget")
    with pytest.raises(
        EigenforgetError, match=r"2 samples of the retain set are identical.*: id007, id021"
    ):
        split(union(one, ByIds(ids=("id002",))), data)
    assert list(split(union(all_copies, ByIds(ids=("id002",))), data).forget) == [1, 2, 7, 21]
    assert list(split(Union(requests=(one,), duplicates="forget"), data).forget) == [1, 7, 21]
    # Copies inside the union are not retained, so nothing is wrong with them.
    assert list(split(union(one, ByIds(ids=("id007", "id021"))), data).forget) == [1, 7, 21]
    kept = Difference(of=ByIds(ids=("id001", "id002")), without=all_copies)
    assert list(split(kept, data).forget) == [2]
