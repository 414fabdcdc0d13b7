"""Comparisons of a column."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import ByClass, ByGroup, BySubclass, ForgetRequest, Where, split
from tests.requests.column_toys import N, index

PYTHON = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


REQUESTS: list[ForgetRequest] = [
    BySubclass(value="a0"),
    BySubclass(value=("a0", "b1")),
    ByGroup(group="patient2"),
    ByGroup(group=("patient0", "patient4")),
    Where(column="age", op=">=", value=30),
    Where(column="day", op="<", value="2024-05-11"),
    Where(column="checked", value=True),
    Where(column="fine", op="contains", value="a"),
    Where(column="id", op="in", value=("id003", "id007")),
]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(N)))
def test_splits_are_disjoint_covering_and_order_free(order: list[int]) -> None:
    here, there = index(), index(np.array(order))
    assert here.digest() == there.digest()
    for request in REQUESTS:
        a, b = split(request, here), split(request, there)
        assert sorted([*a.forget, *a.retain]) == list(range(N))
        assert a.digest == b.digest and set(here.ids[a.forget]) == set(there.ids[b.forget])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PYTHON)),
    st.lists(st.integers(-3, 3), min_size=N, max_size=N),
    st.one_of(st.integers(-3, 3), st.floats(-3, 3)),
)
def test_where_is_pythons_comparison(op: str, values: list[int], value: float) -> None:
    for column in (np.array(values), np.array(values, dtype=np.float64)):
        chosen = Where(column="x", op=op, value=value).select(index(x=column))  # type: ignore[arg-type]
        assert list(chosen) == [i for i, v in enumerate(values) if PYTHON[op](v, value)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(PYTHON)),
    st.lists(st.text("ab-", max_size=3), min_size=N, max_size=N),
    st.text("ab-", min_size=1, max_size=3),
)
def test_where_orders_and_searches_strings(op: str, values: list[str], value: str) -> None:
    data = index(x=np.array(values))
    assert list(Where(column="x", op=op, value=value).select(data)) == [
        i for i, v in enumerate(values) if PYTHON[op](v, value)
    ]  # type: ignore[arg-type]
    assert list(Where(column="x", op="contains", value=value).select(data)) == [
        i for i, v in enumerate(values) if value in v
    ]
    assert list(Where(column="x", op="in", value=(value, "a")).select(data)) == [
        i for i, v in enumerate(values) if v in (value, "a")
    ]


@given(st.sets(st.integers(0, 2), min_size=1, max_size=2))
def test_where_on_labels_is_by_class(labels: set[int]) -> None:
    chosen = tuple(sorted(labels))
    assert (
        split(Where(column="label", op="in", value=chosen), index()).digest
        == split(ByClass(label=chosen), index()).digest
    )
    if len(chosen) == 1:
        assert (
            split(Where(column="label", value=chosen[0]), index()).digest
            == split(ByClass(label=chosen[0]), index()).digest
        )


def test_a_missing_number_equals_nothing_and_has_no_order() -> None:
    data = index(x=np.where(np.arange(N) == 5, np.nan, 1.0))
    assert all(
        5 not in Where(column="x", op=op, value=1).select(data)
        for op in ("==", "<", "<=", ">", ">=")
    )  # type: ignore[arg-type]
    assert list(Where(column="x", op="!=", value=1).select(data)) == [5]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            Where(column="fine", op="<", value=3),
            r"'fine' holds strings \(str\d+\) and 3 is a number: < cannot compare them; quote it",
        ),
        (
            Where(column="age", op="==", value="3"),
            r"'age' holds numbers \(int64\) and '3' is a string",
        ),
        (Where(column="age", value=True), "holds numbers .* and True is a bool"),
        (Where(column="checked", value=1), r"holds bools \(bool\) and 1 is a number"),
        (Where(column="checked", op="<", value=True), "bools, which have no order"),
        (Where(column="age", op="contains", value=3), "'contains' looks for a part of strings"),
        (Where(column="age", op="in", value=(2, "x")), "and 'x' is a string"),
        (
            Where(column="nothing", value=3),
            "no column 'nothing'; its columns: id, label, group, fine, age, weight, checked, day",
        ),
        (Where(column="age", value=1000), "where forgets none of the 24"),
        (Where(column="age", op=">=", value=0), "where forgets all 24"),
        (BySubclass(column="sort", value="a"), "no column 'sort'"),
        (BySubclass(value="z"), "no sample has fine 'z'; the column has: a0, a3, b1, b4, c2, c5"),
        (BySubclass(value=3), "'fine' holds strings .* and 3 is a number"),
        (BySubclass(value=()), "no value of the column 'fine'"),
        (ByGroup(group=7), "'group' holds strings .* and 7 is a number"),
        (ByGroup(group=("patient1", "patient9")), "no sample has group 'patient9'"),
        (ByGroup(group=tuple(f"p{i}" for i in range(12))), r"'p9', … \(12 in all\)"),
    ],
)
def test_wrong_requests(request_: ForgetRequest, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message) as caught:
        split(request_, index())
    assert "\n" not in str(caught.value)
