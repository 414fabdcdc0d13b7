"""Scores of samples and their files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import (
    memorisation_scores,
    model_scores,
    read_scores,
    subsampled_memorisation,
    write_scores,
)
from tests.requests.score_toys import N

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


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
        write_scores(path / "s.csv", ["a"], [1.0])


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
        ("s.csv", 'id,score\n"a,1\n', "not CSV"),
        ("s.csv", "", "there are no scores"),
        ("s.jsonl", '{"id": "a", "score": 1}\n{"id": ', "line 2: not JSON"),
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


RNG = np.random.default_rng(5)


def test_model_scores_are_those_of_a_loop_in_plain_python() -> None:
    logits, labels = RNG.normal(0, 3, (40, 5)), RNG.integers(0, 5, 40)
    for row, label, loss, confidence, margin in zip(
        logits.tolist(),
        labels.tolist(),
        *(model_scores(logits, labels, what) for what in ("loss", "confidence", "margin")),
        strict=True,
    ):
        total = math.fsum(math.exp(z) for z in row)
        assert loss == pytest.approx(-math.log(math.exp(row[label]) / total), rel=1e-12)
        assert confidence == pytest.approx(max(math.exp(z) / total for z in row), rel=1e-12)
        assert margin == pytest.approx(
            row[label] - max(z for c, z in enumerate(row) if c != label), rel=1e-12
        )
        assert (margin < 0) == (max(row) != row[label])


def test_model_scores_keep_their_digits_at_the_ends() -> None:
    logits, labels = (
        np.array([[1e4, 0.0], [0.0, 1e4], [0.0, 40.0], [3.0, 3.0]]),
        np.array([0, 0, 1, 1]),
    )
    losses = [0.0, 1e4, -special.log_softmax([0.0, 40.0])[1], math.log(2)]
    assert model_scores(logits, labels, "loss").tolist() == pytest.approx(losses, rel=1e-9)
    assert model_scores(logits, labels, "margin").tolist() == [1e4, -1e4, 40.0, 0.0]
    assert model_scores(logits, labels, "confidence").tolist() == pytest.approx(
        [1, 1, 1, 0.5], abs=1e-12
    )
    for wrong, message in (
        (np.zeros((4, 1)), "labels must be integers from 0 to 0"),
        (np.full((4, 2), np.nan), "logits has logits that are not finite"),
        (np.zeros((3, 2)), r"must be logits \[models, 4 samples, classes\]"),
    ):
        with pytest.raises(EigenforgetError, match=message):
            model_scores(wrong, labels, "loss")
    with pytest.raises(EigenforgetError, match="at least 2 classes, got 1"):
        model_scores(np.zeros((2, 1)), np.zeros(2, dtype=int), "margin")


def test_subsampled_memorisation_is_a_difference_of_means() -> None:
    probabilities, included = RNG.random((7, 30)), RNG.random((7, 30)).argsort(axis=0) < 4
    found = subsampled_memorisation(probabilities, included)
    for i in range(30):
        seen = [probabilities[t, i] for t in range(7) if included[t, i]]
        unseen = [probabilities[t, i] for t in range(7) if not included[t, i]]
        assert found[i] == pytest.approx(
            math.fsum(seen) / len(seen) - math.fsum(unseen) / len(unseen), abs=1e-14
        )
    assert subsampled_memorisation(included.astype(float), included).tolist() == [1.0] * 30
    assert subsampled_memorisation((~included).astype(float), included).tolist() == [-1.0] * 30


@pytest.mark.parametrize(
    ("probabilities", "included", "message"),
    [
        (
            np.zeros((3, 2)),
            np.array([[1, 1], [1, 0], [1, 0]], bool),
            "samples 0 are in the subsets of all 3 models or of none",
        ),
        (
            np.zeros((3, 2)),
            np.array([[1, 0], [1, 0], [0, 0]], bool),
            "samples 1 are in the subsets of all 3 models or of none",
        ),
        (
            np.zeros((3, 2)),
            np.zeros((2, 3), bool),
            r"one shape \[models, samples\] are needed, got \[3, 2\] and bool \[2, 3\]",
        ),
        (np.zeros((3, 2)), np.zeros((3, 2)), "and float64"),
        (np.full((2, 1), 1.5), np.array([[True], [False]]), "numbers from 0 to 1"),
        (np.full((2, 1), np.nan), np.array([[True], [False]]), "numbers from 0 to 1"),
    ],
)
def test_what_gives_no_memorisation_is_said(
    probabilities: Any, included: Any, message: str
) -> None:
    with pytest.raises(EigenforgetError, match=message):
        subsampled_memorisation(probabilities, included)
