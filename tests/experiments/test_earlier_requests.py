"""A request for a model that was made without other samples already: these stay forgotten."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from eigenforget.data.digits import Digits
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.specs import Specs
from eigenforget.models.checkpoint import load_checkpoint
from eigenforget.training.engine import Engine
from tests.cli.round_toys import exit_code as run

A, B = "by_class(label=3)", "by_class(label=4)"
BOTH = f"union(requests=({A}, {B}))"
SPECS = ("--data", "digits()", "--model", "mlp(hidden=(16,))")
FINETUNE = ("--method", "finetune(epochs=3)")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    train = ("train", *SPECS, "--recipe", "recipe(epochs=6)", "--device", "cpu")
    assert run(*train, "--out", folder / "o.safetensors") == 0
    assert run(*train, "--without", A, "--seed", 1, "--out", folder / "r.safetensors") == 0
    assert unlearn(folder / "o.safetensors", A, folder / "a.safetensors") == 0
    return folder


def unlearn(model: Path, forget: str, out: Path, *more: object) -> int:
    return run("unlearn", model, "--forget", forget, "--out", out, "--device", "cpu", *more)


def class_accuracy(path: Path, label: int) -> float:
    """Accuracy on the test samples of a class."""
    stored = load_checkpoint(path)
    experiment = Experiment.parse(Specs().completed(stored.metadata), Engine(device="cpu"))
    model, test = experiment.stored_model(stored), experiment.data.test
    rows = np.flatnonzero(test.labels() == label)
    (batch,) = test.subset(rows).batches(len(rows))
    return float((model(batch.inputs).argmax(1) == batch.labels).float().mean())


@pytest.mark.parametrize("before", ["a", "r"])
def test_what_was_forgotten_before_is_not_trained_on_again(
    models: Path, tmp_path: Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fine-tuning on the retain set would bring class 3 back if its samples were retained."""
    out = tmp_path / "b.safetensors"
    assert unlearn(models / f"{before}.safetensors", B, out, *FINETUNE) == 0
    said = capsys.readouterr().out
    assert class_accuracy(out, 3) <= 0.1 and class_accuracy(out, 5) >= 0.8
    record = json.loads(out.with_suffix(".json").read_text())
    labels = Digits().load().train_index.labels
    count = {label: int((labels == label).sum()) for label in (3, 4)}
    assert record["job"]["request"]["spec"] == BOTH
    assert record["job"]["earlier"] == {"forgotten": count[3], "new": count[4]}
    assert record["job"]["sizes"]["retain"] == len(labels) - count[3] - count[4]
    assert load_checkpoint(out).metadata["request"] == BOTH
    assert f"{before}.safetensors was made without {A}" in said


def test_the_next_commands_run_as_they_are_printed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in models.iterdir():
        shutil.copy(path, tmp_path)
    out = tmp_path / "b.safetensors"
    assert unlearn(tmp_path / "a.safetensors", B, out, *FINETUNE) == 0
    lines = capsys.readouterr().out.splitlines()
    (measure,) = [line.removeprefix("Next: ") for line in lines if line.startswith("Next: ")]
    (retrain,) = [line.strip() for line in lines if line.strip().startswith("eigenforget train")]
    words = shlex.split(measure)
    assert words[words.index("--original") + 1] == str(tmp_path / "o.safetensors")
    oracle = shlex.split(retrain)
    oracle[oracle.index("--out") + 1] = str(tmp_path / "oracle.safetensors")
    assert run(*oracle[1:], "--device", "cpu") == 0
    words[words.index("--out") + 1] = str(tmp_path / "results")
    skipped = ("relearning", "linear_probe", "rmia", "zrf", "few_label_probe")
    skip = [word for name in skipped for word in ("--skip", name)]
    more = ("--oracle", tmp_path / "oracle.safetensors", "--device", "cpu", *skip)
    assert run(*words[1:], *more) == 0
    record = json.loads((tmp_path / "results" / "records" / "02-b.json").read_text())
    # It goes back to the original, over a model that is not named.
    assert not any("another model" in line for line in record["job"].get("warnings", []))


def test_a_third_request_keeps_both(models: Path, tmp_path: Path) -> None:
    second, third = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    assert unlearn(models / "a.safetensors", B, second, *FINETUNE) == 0
    assert unlearn(second, "by_class(label=5)", third, *FINETUNE) == 0
    assert load_checkpoint(third).metadata["request"] == f"{BOTH[:-2]}, by_class(label=5)))"
    assert class_accuracy(third, 3) <= 0.1


def test_the_same_request_may_be_honoured_once_more(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.safetensors"
    assert unlearn(models / "a.safetensors", A, out, *FINETUNE) == 0
    job = json.loads(out.with_suffix(".json").read_text())["job"]
    assert job["request"]["spec"] == A and job["earlier"]["new"] == 0


def test_a_model_that_never_saw_the_samples_has_nothing_to_forget(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none.safetensors"
    assert unlearn(models / "r.safetensors", A, out) == 2
    assert "nothing to forget" in capsys.readouterr().err and not out.exists()
    compared = ("evaluate", models / "a.safetensors", "--original", models / "r.safetensors")
    assert run(*compared, "--forget", A, "--out", tmp_path / "results") == 2
    assert f"trained without {A}" in " ".join(capsys.readouterr().err.split())


def test_an_original_without_other_samples_is_doubted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.safetensors"
    assert unlearn(models / "r.safetensors", B, out, "--method", "head_mask()") == 0
    skip = [w for n in ("relearning", "linear_probe", "rmia", "zrf") for w in ("--skip", n)]
    compared = ("evaluate", out, "--original", models / "r.safetensors", "--forget", BOTH, *skip)
    assert run(*compared, "--device", "cpu", "--out", tmp_path / "results") == 0
    record = json.loads((tmp_path / "results" / "records" / "01-b.json").read_text())
    assert any(f"trained without {A}" in line for line in record["job"]["warnings"])


@pytest.mark.parametrize("with_rows", [True, False])
def test_hidden_ids_are_left_out_by_their_hashes_or_doubted(
    models: Path, tmp_path: Path, with_rows: bool
) -> None:
    index = Digits().load().train_index
    (tmp_path / "ids.txt").write_text("\n".join(map(str, index.ids[:40])))
    salt = tmp_path / "salt"
    salt.write_text(bytes(range(32)).hex())
    hidden = ("--hash-ids", salt, "--method", "finetune(epochs=1)")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    listed = f"by_ids(ids={tuple(map(str, index.ids[:40]))!r})"
    assert unlearn(models / "o.safetensors", listed, first, *hidden) == 0
    assert str(index.ids[0]) not in load_checkpoint(first).metadata["request"]
    if not with_rows:
        first.with_suffix(".rows").unlink()
    assert unlearn(first, B, second, *hidden) == 0
    job = json.loads(second.with_suffix(".json").read_text())["job"]
    gone = int((index.labels == 4).sum())
    left = int((index.labels[:40] != 4).sum()) if with_rows else 0
    assert job["sizes"]["retain"] == len(index) - gone - left
    assert any("bring" in line for line in job.get("warnings", [])) is not with_rows
