"""Samples chosen by a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse, spell
from eigenforget.core.types import Index
from eigenforget.requests import (
    REQUESTS,
    ByMemorisation,
    ForgetRequest,
    RankedSamples,
    WorstCase,
    split,
    write_scores,
)
from tests.requests.score_toys import IDS, SCORES, N


def index(order: Any = None) -> Index:
    order = np.arange(N) if order is None else np.array(order)
    return Index(IDS[order], (np.arange(N) % 4)[order])


def in_order(key: Any) -> list[str]:
    """Ids by key and then by id, by Python's own sort."""
    return [IDS[i] for i in sorted(range(N), key=lambda i: (key(SCORES[i]), IDS[i]))]


@pytest.mark.parametrize("n", [1, 5, 13])
def test_ranks_are_those_of_a_plain_sort(path: str, n: int) -> None:
    wanted: list[tuple[ForgetRequest, list[str]]] = [
        (RankedSamples(path=path, n=n), in_order(lambda s: -s)),
        (RankedSamples(path=path, n=n, order="lowest"), in_order(lambda s: s)),
        (RankedSamples(path=path, fraction=n / N), in_order(lambda s: -s)),
        (WorstCase(path=path, n=n), in_order(lambda s: -s)),
        (ByMemorisation(path=path, n=n), in_order(lambda s: -s)),
        (ByMemorisation(path=path, level="low", n=n), in_order(lambda s: s)),
        (ByMemorisation(path=path, level="medium", n=n), in_order(lambda s: abs(s - 0.5))),
        (
            ByMemorisation(path=path, level="medium", n=n, middle=0.25),
            in_order(lambda s: abs(s - 0.25)),
        ),
    ]
    for request, ids in wanted:
        assert set(IDS[split(request, index()).forget]) == set(ids[:n]), spell(request)
        assert parse(spell(request), REQUESTS, "request") == request


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(N)))
def test_ranks_do_not_depend_on_the_order_of_the_data(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    path = str(write_scores(tmp_path_factory.mktemp("scores") / "s.csv", IDS, SCORES))
    for level in ("high", "medium", "low"):
        request = ByMemorisation(path=path, level=level, n=7)  # type: ignore[arg-type]
        here, there = split(request, index()), split(request, index(order))
        assert here.digest == there.digest and sorted([*here.forget, *here.retain]) == list(
            range(N)
        )


def test_ids_must_match(path: str) -> None:
    more = Index(np.array([*IDS, *(f"new{i:02d}" for i in range(11))]), np.arange(N + 11) % 4)
    with pytest.raises(
        EigenforgetError,
        match=r"has no score for these training samples: new00, .*new09, … \(11 in all\)",
    ):
        split(WorstCase(path=path, n=3), more)
    with pytest.raises(
        EigenforgetError, match="scores of ids that are not in the training data: id018, id019"
    ):
        split(WorstCase(path=path, n=3), Index(IDS[:18], np.arange(18) % 4))
    with pytest.raises(EigenforgetError, match="n=21 is more than the 20 samples"):
        split(WorstCase(path=path, n=21), index())
    with pytest.raises(EigenforgetError, match=r"cannot read the scores 'nothing\.csv'"):
        split(RankedSamples(path="nothing.csv", n=3), index())


@pytest.mark.parametrize(
    "text",
    [
        "ranked(path='a.csv')",
        "ranked(path='a.csv', n=3, fraction=0.1)",
        "by_memorisation(path='a.csv')",
        "worst_case(path='a.csv', n=0)",
    ],
)
def test_wrong_specs(text: str) -> None:
    with pytest.raises(EigenforgetError, match=r"give fraction or n|n: "):
        parse(text, REQUESTS, "request")
