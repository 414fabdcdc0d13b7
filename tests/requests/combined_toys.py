"""Toys that several tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from eigenforget.core.types import Index
from eigenforget.requests import (
    AtRandom,
    ByClass,
    ByGroup,
    ByIds,
    Difference,
    ForgetRequest,
    Union,
    Where,
)

N = 30


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
