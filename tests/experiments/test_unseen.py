"""Unseen samples: who draws them, that methods are given them, and that no score counts them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Index
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.results import Recording
from eigenforget.experiments.unseen import UnseenSamples, positions_of_unseen
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import as_method
from eigenforget.record import Outcome, make_salt
from eigenforget.record import read as read_record
from tests.cli.round_toys import exit_code as run

TEST = 360
"""Test samples of the digits."""
OUTCOME = Outcome("refused", 0.0, reason="none")
LABELS = np.array([0] * 20 + [1] * 10 + [2] * 2 + [3])
IDS = np.array([f"s{n:02d}" for n in range(len(LABELS))])


def test_a_share_is_taken_of_each_class_whatever_the_order() -> None:
    index, order = Index(IDS, LABELS), np.random.default_rng(0).permutation(len(LABELS))
    rows = UnseenSamples(0.3).rows(index)
    assert np.bincount(LABELS[rows]).tolist() == [6, 3, 1], "one of two, and none of a single one"
    moved = Index(IDS[order], LABELS[order])
    assert set(moved.ids[UnseenSamples(0.3).rows(moved)]) == set(IDS[rows])


def test_a_file_of_ids_names_them(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\ufeffs03\n\n s00 \n", encoding="utf-8")
    assert UnseenSamples.parse(str(path)).rows(Index(IDS, LABELS)).tolist() == [0, 3]
    path.write_text("s03\nnone\n", encoding="utf-8")
    with pytest.raises(EigenforgetError, match="not on the test side: none"):
        UnseenSamples.parse(str(path)).rows(Index(IDS, LABELS))
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(EigenforgetError, match="names no id"):
        UnseenSamples.parse(str(path)).rows(Index(IDS, LABELS))


@pytest.mark.parametrize("wrong", ["1", "0", "-0.1", "nan", "nowhere.txt"])
def test_what_is_neither_a_share_nor_a_file_is_an_error(wrong: str) -> None:
    with pytest.raises(EigenforgetError, match=f"--unseen .*{wrong}.*one of its ids"):
        UnseenSamples.parse(wrong)


def test_something_is_left_to_measure_on(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(IDS), encoding="utf-8")
    with pytest.raises(EigenforgetError, match="all 33 of the test side"):
        positions_of_unseen([UnseenSamples(path=str(path))], Index(IDS, LABELS))


def test_a_method_is_given_them_and_no_score_counts_them(
    digits: Experiment, trained: nn.Module
) -> None:
    found: list[Any] = []

    def spy(task: Task) -> nn.Module:
        found.append(task.unseen)
        return task.model

    experiment = replace(digits, unseen=(UnseenSamples(0.2),), loaded=digits.data)
    experiment.unlearn(trained, as_method(spy), seed=0)
    seen = {tuple(row) for row in found[0].inputs.flatten(1).tolist()}
    parts = experiment.panel().parts
    measured = {
        tuple(row)
        for name in ("test_forget", "test_retain")
        for row in parts[name].inputs.flatten(1).tolist()
    }
    everything = {tuple(row) for row in digits.data.test.inputs.flatten(1).tolist()}
    assert seen and not seen & measured and seen | measured == everything
    sizes = experiment.sizes()
    assert sizes["test"] + len(found[0]) == digits.sizes()["test"]
    assert len(experiment.panel().test_ids) == sizes["test"]
    entry = experiment.origin.job["unseen"]
    assert (entry["spec"], entry["count"]) == ("0.2", len(found[0])) and "sha256" in entry["digest"]
    assert "unseen" not in digits.origin.job
    digits.unlearn(trained, as_method(spy), seed=0)
    assert found[1] is None


def test_where_ids_are_hidden_no_guess_of_them_can_be_confirmed(
    digits: Experiment, tmp_path: Path
) -> None:
    experiment = replace(digits, unseen=(UnseenSamples(0.2),), loaded=digits.data)
    salt = make_salt(tmp_path / "salt")
    plain, hidden = (
        experiment.seal([experiment.record("unlearn", "m", OUTCOME)], recording).records[0]
        for recording in (Recording(), Recording(hash_ids=salt))
    )
    assert plain.job["unseen"]["digest"] != hidden.job["unseen"]["digest"]


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original, and a model that was unlearned with a tenth of the test side at hand."""
    folder = tmp_path_factory.mktemp("rounds")
    given = ("--data", "digits()", "--model", "mlp(hidden=(8,))", "--recipe", "recipe(epochs=2)")
    assert run("train", *given, "--out", folder / "original.safetensors") == 0
    words = ("--forget", "at_random(n=40)", "--method", "lotus(epochs=1)", "--unseen", 0.1)
    out = ("--out", folder / "lotus.safetensors")
    assert run("unlearn", folder / "original.safetensors", *words, *out) == 0
    return folder


def evaluated(folder: Path, out: Path, *words: object) -> int:
    given = ("--original", folder / "original.safetensors", "--forget", "at_random(n=40)")
    skip = ("--skip", "relearning")
    return run("evaluate", folder / "lotus.safetensors", *given, *skip, "--out", out, *words)


def test_the_record_says_which_and_evaluate_leaves_them_out(rounds: Path, tmp_path: Path) -> None:
    entry = json.loads((rounds / "lotus.json").read_text())["job"]["unseen"]
    assert entry["spec"] == "0.1" and entry["count"] == 40, "4 of each class"
    assert evaluated(rounds, tmp_path / "out") == 0
    for path in sorted((tmp_path / "out" / "records").glob("0*.json")):
        record = read_record(path)
        assert record.job["unseen"] == entry and record.job["sizes"]["test"] == TEST - 40


def test_a_list_that_changed_is_an_error_with_a_cure(
    rounds: Path, tmp_path: Path, digits: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    now, then = tmp_path / "now.txt", tmp_path / "then.txt"
    ids = digits.data.test_index.ids[:40].tolist()
    for path in (now, then):
        path.write_text("\n".join(ids), encoding="utf-8")
    words = ("--forget", "at_random(n=40)", "--method", "lotus(epochs=1)", "--unseen", now)
    out = ("--out", tmp_path / "lotus.safetensors")
    assert run("unlearn", rounds / "original.safetensors", *words, *out) == 0
    now.write_text("\n".join(ids[1:]), encoding="utf-8")
    for name in ("original.safetensors", "original.json", "original.rows"):
        (tmp_path / name).write_bytes((rounds / name).read_bytes())
    assert evaluated(tmp_path, tmp_path / "out") == 2
    assert "name them with --unseen FILE" in " ".join(capsys.readouterr().err.split())
    assert evaluated(tmp_path, tmp_path / "out", "--unseen", then) == 0


def test_lotus_without_unseen_samples_refuses_in_one_line(
    rounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--forget", "at_random(n=40)", "--method", "lotus(epochs=1)")
    out = ("--out", tmp_path / "lotus.safetensors")
    assert run("unlearn", rounds / "original.safetensors", *words, *out) == 2
    assert "lotus needs unseen samples, or target_accuracy" in capsys.readouterr().err


def test_triggered_samples_that_a_method_may_see_are_not_measured(engine: Any) -> None:
    from eigenforget.data import DATASETS
    from eigenforget.models import MODELS
    from eigenforget.requests import REQUESTS
    from eigenforget.training.recipe import Recipe

    experiment = Experiment(
        DATASETS.parse("backdoored(inner=digits(), target=0)"),
        MODELS.parse("mlp()"),
        Recipe(epochs=1),
        REQUESTS.parse("poisoned()"),
        engine,
        unseen=(UnseenSamples(0.5),),
    )
    index, part = experiment.data.test_index, experiment.panel().parts["test_trigger"]
    rows = experiment.test_rows
    assert len(part) == int((index.labels[rows] != 0).sum()) < len(rows)
