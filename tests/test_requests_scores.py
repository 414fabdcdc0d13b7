"""Requests by per-sample scores, the files that hold them, and memorisation scores."""

from __future__ import annotations

import math
from pathlib import Path
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
    memorisation_scores,
    read_scores,
    split,
    write_scores,
)

N = 20
IDS = np.array([f"id{i:03d}" for i in range(N)])
SCORES = np.round(np.random.default_rng(3).random(N), 1)  # many ties
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


def index(order: Any = None) -> Index:
    order = np.arange(N) if order is None else np.array(order)
    return Index(IDS[order], (np.arange(N) % 4)[order])


def in_order(key: Any) -> list[str]:
    """Ids by key and then by id, by Python's own sort."""
    return [IDS[i] for i in sorted(range(N), key=lambda i: (key(SCORES[i]), IDS[i]))]


@pytest.fixture(params=["scores.csv", "scores.jsonl"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(write_scores(tmp_path / request.param, IDS[::-1], SCORES[::-1]))


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


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_scores_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, scores: dict[str, float]
) -> None:
    folder = tmp_path_factory.mktemp("scores")
    for name in ("a.csv", "a.jsonl", "A.NDJSON"):
        written = write_scores(
            folder / name, list(scores), list(scores.values()), column="memorisation"
        )
        assert read_scores(written, "memorisation") == scores
    assert sorted(p.name for p in folder.iterdir()) == [
        "A.NDJSON",
        "a.csv",
        "a.jsonl",
    ]  # no temporary file is left


def test_ids_with_commas_quotes_and_newlines(tmp_path: Path) -> None:
    scores = {'a,"b"': 1.0, "c\nd": 2.0, " e ": 3.0}
    for name in ("a.csv", "a.jsonl"):
        assert (
            read_scores(write_scores(tmp_path / name, list(scores), list(scores.values())))
            == scores
        )


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "s.csv", ["a"], [1.0])
    with pytest.raises(
        EigenforgetError, match="scores must be finite numbers; these ids have none: b"
    ):
        write_scores(path, ["a", "b"], [1.0, math.nan])
    assert read_scores(path) == {"a": 1.0}
    for ids, values, message in (
        (["a", "b"], [1.0], "one score is needed for each id"),
        (["a", "a"], [1, 2], "repeated: a"),
    ):
        with pytest.raises(EigenforgetError, match=message):
            write_scores(path, ids, values)
    with pytest.raises(EigenforgetError, match="cannot be written"):
        write_scores(tmp_path / "missing" / "s.csv", ["a"], [1.0])


def test_further_columns_and_whole_numbers_are_fine(tmp_path: Path) -> None:
    table, lines = tmp_path / "s.csv", tmp_path / "s.jsonl"
    table.write_text("\ufeffname,id,loss\nx,7,3\ny,8,-1e-3\n", encoding="utf-8")
    lines.write_text(
        '{"id": 7, "loss": 3}\n\n{"loss": -0.001, "id": "8", "more": [1]}\n', encoding="utf-8"
    )
    assert read_scores(table, "loss") == read_scores(lines, "loss") == {"7": 3.0, "8": -0.001}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "s.csv",
            "id,loss\na,1\n",
            "s.csv, line 2: there is no 'score'; the columns are: id, loss",
        ),
        ("s.csv", "a,1\n", "there are no scores"),
        ("s.csv", "id,score\na\n", "line 2: there is no 'score'"),
        ("s.csv", "id,score\na,x\nb,nan\nc,1\n", "these ids have none: a, b"),
        ("s.csv", "id,score\na,1\na,2\n", "ids must be unique; repeated: a"),
        ("s.csv", 'id,score\n"a,1\n', "no CSV"),
        ("s.csv", "", "there are no scores"),
        ("s.jsonl", '{"id": "a", "score": 1}\n{"id": ', "line 2: no JSON"),
        ("s.jsonl", "[1]\n", "an object with an id and a score is needed"),
        ("s.jsonl", '{"id": "a"}\n', "line 1: there is no 'score'; the columns are: id"),
        ("s.jsonl", '{"id": "a", "score": true}\n', "these ids have none: a"),
        ("s.txt", "a 1\n", "scores are kept in .csv, .jsonl or .ndjson files"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(EigenforgetError, match=message) as caught:
        read_scores(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


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


def test_memorisation_is_the_gap_of_label_probabilities() -> None:
    rng = np.random.default_rng(0)
    seen, unseen, labels = (
        rng.normal(size=(3, N, 5)) * 4,
        rng.normal(size=(2, N, 5)) * 4,
        rng.integers(0, 5, N),
    )

    def probability(models: np.ndarray, i: int) -> float:
        of = [math.exp(m[i, labels[i]]) / math.fsum(math.exp(v) for v in m[i]) for m in models]
        return math.fsum(of) / len(of)

    wanted = [probability(seen, i) - probability(unseen, i) for i in range(N)]
    np.testing.assert_allclose(
        memorisation_scores(seen, unseen, labels), wanted, rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(
        memorisation_scores(seen + 1e3, unseen - 1e3, labels), wanted, rtol=0, atol=1e-11
    )
    assert (memorisation_scores(seen, seen, labels) == 0).all()
    assert (
        memorisation_scores(seen, unseen, labels) == -memorisation_scores(unseen, seen, labels)
    ).all()


def test_memorisation_reaches_its_bounds() -> None:
    sure, wrong = np.array([[[1e4, 0.0]]]), np.array([[[-1e4, 0.0]]])
    assert memorisation_scores(sure, wrong, [0]) == [1.0] and memorisation_scores(
        wrong, sure, [0]
    ) == [-1.0]


@pytest.mark.parametrize(
    ("seen", "unseen", "labels", "message"),
    [
        (np.zeros((2, 3)), np.zeros((1, 2, 3)), [0, 1], "with_sample must be logits"),
        (np.zeros((0, 2, 3)), np.zeros((1, 2, 3)), [0, 1], "at least one model"),
        (np.zeros((1, 2, 3)), np.zeros((1, 3, 3)), [0, 1], "without must be logits .*2 samples"),
        (np.zeros((1, 2, 3)), np.zeros((1, 2, 4)), [0, 1], "3 classes and without has 4"),
        (np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), [0, 3], "integers from 0 to 2, got 0, 3"),
        (
            np.full((1, 2, 3), np.nan),
            np.zeros((1, 2, 3)),
            [0, 1],
            "with_sample has logits that are not finite",
        ),
    ],
)
def test_wrong_logits(
    seen: np.ndarray, unseen: np.ndarray, labels: list[int], message: str
) -> None:
    with pytest.raises(EigenforgetError, match=message):
        memorisation_scores(seen, unseen, labels)
