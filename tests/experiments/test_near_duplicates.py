"""Near duplicates across the two sides, against a plain loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eigenforget.experiments.near_duplicates as neighbours
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.near_duplicates import (
    is_narrow,
    near_duplicates,
    similar_inputs,
    worth_a_search,
)
from eigenforget.requests import REQUESTS
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe


def ids(letter: str, count: int) -> np.ndarray:
    return np.array([f"{letter}{i:03d}" for i in range(count)])


def slow(
    forget: np.ndarray, retain: np.ndarray, threshold: float, k: int
) -> list[tuple[str, str, float]]:
    found = []
    for f, a in zip(ids("f", len(forget)), forget, strict=True):
        row = []
        for r, b in zip(ids("r", len(retain)), retain, strict=True):
            size = math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b))
            if size:
                row.append((round(math.fsum(a * b) / size, 12), r))
        row = [(c, r) for c, r in row if c >= threshold]
        found += [(f, r, c) for c, r in sorted(row, key=lambda item: (-item[0], item[1]))[:k]]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))


def check(found: list[neighbours.DuplicatePair], wanted: list[tuple[str, str, float]]) -> None:
    assert [pair[:2] for pair in found] == [pair[:2] for pair in wanted]
    np.testing.assert_allclose(
        [p.cosine for p in found], [c for _, _, c in wanted], rtol=0, atol=2e-12
    )


@pytest.mark.parametrize("block", [2, 5, 2048])
@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("threshold", [0.3, 0.9, 1.0])
def test_pairs_are_those_of_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, block: int, k: int, threshold: float
) -> None:
    rng = np.random.default_rng(1)
    forget, retain = (
        rng.integers(-2, 3, (13, 3)).astype(float),
        rng.integers(-2, 3, (21, 3)).astype(float),
    )  # many ties and zeros
    forget[0], retain[4] = 0, 0
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    found = near_duplicates(
        forget,
        features_retain=retain,
        ids_forget=ids("f", 13),
        ids_retain=ids("r", 21),
        threshold=threshold,
        k=k,
    )
    wanted = slow(forget, retain, threshold, k)
    assert wanted and found.total == len(wanted) and found.samples == len({f for f, _, _ in wanted})
    check(found.pairs, wanted)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.permutations(range(17)), st.integers(1, 4))
def test_the_order_of_the_samples_does_not_matter(
    here: list[int], there: list[int], k: int
) -> None:
    rng = np.random.default_rng(2)
    forget, retain = rng.integers(0, 3, (12, 2)) + 0.5, rng.integers(0, 3, (17, 2)) + 0.5
    f, r = ids("f", 12), ids("r", 17)
    whole = near_duplicates(forget, features_retain=retain, ids_forget=f, ids_retain=r, k=k)
    assert (
        near_duplicates(
            forget[here],
            features_retain=retain[there],
            ids_forget=f[here],
            ids_retain=r[there],
            k=k,
        )
        == whole
    )


def test_copies_and_scaled_copies_have_cosine_one() -> None:
    rng = np.random.default_rng(3)
    retain = rng.normal(size=(40, 64))
    for scale in (1.0, 1e-200, 1e200):
        found = near_duplicates(
            retain[[7]] * scale,
            features_retain=retain,
            ids_forget=["x"],
            ids_retain=ids("r", 40),
            threshold=1.0,
        )
        assert found.pairs == [("x", "r007", 1.0)]


def test_the_list_is_capped_and_the_count_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.ones((6, 2))
    monkeypatch.setattr(neighbours, "_MOST_PAIRS", 4)
    found = near_duplicates(
        same, features_retain=same, ids_forget=ids("f", 6), ids_retain=ids("r", 6), k=3
    )
    assert found.total == 18 and found.samples == 6
    assert [p[:2] for p in found.pairs] == [
        ("f000", "r000"),
        ("f000", "r001"),
        ("f000", "r002"),
        ("f001", "r000"),
    ]
    assert found.line.startswith(
        "6 samples of the forget set have near duplicates in the retain set: f000 ~ r000 (1.0000), "
    )
    assert found.line.endswith("… (18 pairs in all)")


def test_nothing_near_is_no_warning() -> None:
    found = near_duplicates(
        np.eye(3), features_retain=-np.eye(3), ids_forget=ids("f", 3), ids_retain=ids("r", 3)
    )
    assert found == ([], 0, 0) and found.line == found.doubt == ""
    assert (
        near_duplicates(
            np.zeros((2, 3)),
            features_retain=np.zeros((2, 3)),
            ids_forget=ids("f", 2),
            ids_retain=ids("r", 2),
        ).total
        == 0
    )
    assert (
        near_duplicates(
            np.ones((2, 3)), features_retain=np.ones((0, 3)), ids_forget=ids("f", 2), ids_retain=[]
        ).total
        == 0
    )


ONE = np.ones((2, 3))


@pytest.mark.parametrize(
    ("forget", "retain", "more", "message"),
    [
        (
            np.ones(3),
            ONE,
            {},
            r"forget features must be \[N, D\] with one id each, got \[3\] and 2 ids",
        ),
        (
            ONE,
            np.ones((3, 3)),
            {},
            r"retain features must be \[N, D\] with one id each, got \[3, 3\] and 2 ids",
        ),
        (ONE, np.ones((2, 4)), {}, "forget features have 3 columns and retain features 4"),
        (
            ONE,
            np.array([[1.0, 2.0, np.nan], [1, 2, 3]]),
            {},
            "retain features are not finite: r000",
        ),
        (ONE, ONE, {"threshold": 0.0}, "threshold 0.0 must be above 0 and at most 1"),
        (ONE, ONE, {"threshold": 1.5}, "threshold 1.5"),
        (ONE, ONE, {"k": 0}, "k 0 must be at least 1"),
    ],
)
def test_wrong_input(
    forget: np.ndarray, retain: np.ndarray, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(EigenforgetError, match=message):
        near_duplicates(
            forget, features_retain=retain, ids_forget=ids("f", 2), ids_retain=ids("r", 2), **more
        )


def test_ids_must_be_unique() -> None:
    with pytest.raises(EigenforgetError, match="forget ids must be unique"):
        near_duplicates(ONE, features_retain=ONE, ids_forget=["a", "a"], ids_retain=ids("r", 2))


def planted(folder: Path, side: int) -> Experiment:
    """60 noise images of side × side; the last 5 retained ones are the first 5 forgotten ones with
    one pixel changed a little.
    """
    rng = np.random.default_rng(side)
    images = rng.integers(0, 256, (60, side, side), dtype=np.uint8)
    images[55:] = images[:5]
    images[55:, 0, 0] ^= 8
    labels = np.array([0] * 20 + [1] * 40)
    np.savez(
        folder / "d.npz",
        x_train=images,
        y_train=labels,
        x_test=images[::3] // 2,
        y_test=labels[::3],
    )
    data = parse(f'npz(path="{folder / "d.npz"}")', DATASETS, "data set")
    return Experiment(
        data, None, Recipe(), parse("by_class(label=0)", REQUESTS, "request"), Engine(device="cpu")
    )


@pytest.mark.parametrize(
    "side", [8, 24]
)  # below and above the width from which on inputs are projected first
def test_planted_twins_are_found_and_no_other(tmp_path: Path, side: int) -> None:
    experiment = planted(tmp_path, side)
    found = similar_inputs(experiment)
    assert {(p.forget, p.retain) for p in found.pairs} == {
        (f"train/{i}", f"train/{55 + i}") for i in range(5)
    }
    assert found.total == found.samples == 5 and worth_a_search(experiment)
    x = experiment.data.train.inputs.flatten(1).double().numpy()  # type: ignore[union-attr]
    for pair in found.pairs:
        a, b = (x[int(name.removeprefix("train/"))] for name in (pair.forget, pair.retain))
        assert pair.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-9)
    assert not similar_inputs(experiment, threshold=0.999999).pairs


def test_wide_inputs_are_searched_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = planted(tmp_path, 24)
    whole = similar_inputs(experiment)
    sizes: list[int] = []
    real = neighbours._blocks

    def seen(source: Any, size: int = 1024) -> Any:
        for block in real(source, size):
            sizes.append(block.size)
            yield block

    monkeypatch.setattr(neighbours, "_blocks", seen)
    monkeypatch.setattr(neighbours, "_BLOCK_NUMBERS", 3 * 24 * 24)
    few = similar_inputs(experiment)
    assert sizes and max(sizes) == 3 * 24 * 24
    check(few.pairs, [tuple(pair) for pair in whole.pairs])


def test_narrow_inputs_are_not_searched_unasked(tmp_path: Path) -> None:
    """Of so few numbers those of other samples are near by chance."""
    assert is_narrow(planted(tmp_path, 5)) and not worth_a_search(planted(tmp_path, 5))
    assert not is_narrow(planted(tmp_path, 6))
