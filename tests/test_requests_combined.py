"""union, difference and sequences: the laws of sets, copies, and specs inside specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import as_json, from_json, parse, spell
from eigenforget.core.types import Index
from eigenforget.requests import (
    REQUESTS,
    AtRandom,
    ByClass,
    ByGroup,
    ByIds,
    Difference,
    ForgetRequest,
    Sequential,
    Union,
    Where,
    split,
    steps,
)

N = 30
PLANS: list[type] = [*REQUESTS, Sequential]


def index(order: Any = None, content: list[str] | None = None) -> Index:
    order = np.arange(N) if order is None else np.array(order)
    ids = np.array([f"id{i:03d}" for i in range(N)])
    return Index(
        ids[order],
        (np.arange(N) % 5)[order],
        np.array([f"g{i % 4}" for i in range(N)])[order],
        None if content is None else np.array(content)[order],
        {"age": np.arange(N)[order]},
    )


DATA = index()
atoms = st.one_of(
    st.builds(lambda label: ByClass(label=label), st.integers(0, 4)),
    st.builds(lambda n, seed: AtRandom(n=n, seed=seed), st.integers(1, 8), st.integers(0, 3)),
    st.builds(lambda group: ByGroup(group=f"g{group}"), st.integers(0, 3)),
    st.builds(
        lambda age, op: Where(column="age", op=op, value=age),
        st.integers(0, 29),
        st.sampled_from(["<", ">=", "=="]),
    ),
    st.builds(
        lambda rows: ByIds(ids=tuple(f"id{i:03d}" for i in rows)),
        st.sets(st.integers(0, 29), min_size=1, max_size=5),
    ),
)
nested = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda rs: Union(requests=tuple(rs)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a, b: Difference(of=a, without=b), inner, inner),
    ),
    max_leaves=5,
)


def chosen(request: ForgetRequest, data: Index = DATA) -> set[str]:
    return set(data.ids[request.select(data)])


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
        EigenforgetError, match="2 retained samples are identical to forgotten ones: id007, id021"
    ):
        split(union(one, ByIds(ids=("id002",))), data)
    assert list(split(union(all_copies, ByIds(ids=("id002",))), data).forget) == [1, 2, 7, 21]
    assert list(split(Union(requests=(one,), duplicates="forget"), data).forget) == [1, 7, 21]
    # Copies inside the union are not retained, so nothing is wrong with them.
    assert list(split(union(one, ByIds(ids=("id007", "id021"))), data).forget) == [1, 7, 21]
    kept = Difference(of=ByIds(ids=("id001", "id002")), without=all_copies)
    assert list(split(kept, data).forget) == [2]


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
        match=r'step 2 \(by_ids\): 2 samples are forgotten already.*: id001, id006; say again="skip"',
    ):
        steps(Sequential(requests=(first, again)), DATA)
    found = steps(Sequential(requests=(first, again, ByClass(label=1)), again="skip"), DATA)
    assert [list(step.new) for step in found] == [list(range(1, N, 5)), [2], []]
    late = Where(column="age", op="<", value=25)
    with pytest.raises(
        EigenforgetError, match=r"25 samples are .*: id000, .*id009, … \(25 in all\)"
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
        match=r"step 1 \(by_ids\): 1 retained samples are identical to forgotten ones: id007",
    ):
        steps(Sequential(requests=(first, second)), data)
    every = ByIds(ids=("id001",), duplicates="forget")
    with pytest.raises(EigenforgetError, match=r"step 2 .*forgotten already.*id007"):
        steps(Sequential(requests=(every, second)), data)
    assert [
        list(s.new) for s in steps(Sequential(requests=(every, second), again="skip"), data)
    ] == [[1, 7], []]
