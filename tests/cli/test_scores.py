"""`eigenforget scores`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from eigenforget.cli import main
from eigenforget.core.spec import parse
from eigenforget.core.types import Index
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import MODELS, checkpoint
from eigenforget.record import read
from eigenforget.requests import REQUESTS, read_scores, split

MODEL, RECIPE = "mlp(hidden=(16,))", "recipe(epochs=2, batch_size=128)"


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def failing(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert ended.value.code == 2
    return capsys.readouterr().err.rstrip("\n")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "original.safetensors"
    run("train", "--data", "digits()", "--model", MODEL, "--recipe", RECIPE, "--out", path)
    return path


def test_scores_of_a_checkpoint_are_those_of_its_model(
    original: Path, tmp_path: Path, digits: Experiment
) -> None:
    model = parse(MODEL, MODELS, "model").build(
        num_classes=10, input_shape=digits.data.input_shape, seed=0
    )
    checkpoint.load_into(model, checkpoint.load_checkpoint(original))
    train, index = digits.data.train, digits.data.train_index
    with torch.no_grad():
        logits = model.eval()(train.inputs).double().numpy()  # type: ignore[union-attr]
    p = special.softmax(logits, axis=1)
    own = p[np.arange(len(index)), index.labels]
    wanted = {"loss": -np.log(own), "confidence": p.max(axis=1)}
    for name, values in wanted.items():
        run("scores", original, "--score", name, "--out", tmp_path / f"{name}.csv")
        found = read_scores(tmp_path / f"{name}.csv")
        assert list(found) == [str(i) for i in index.ids]
        np.testing.assert_allclose(list(found.values()), values, rtol=1e-5, atol=1e-6)
    run("scores", original, "--score", "margin", "--out", tmp_path / "new" / "margin.jsonl")
    margins = read_scores(tmp_path / "new" / "margin.jsonl")
    right = (logits.argmax(axis=1) == index.labels).tolist()
    assert [margin > 0 for margin in margins.values()] == right and 0 < sum(right) < len(right)


def test_scores_then_train_then_unlearn_what_they_rank_first(
    original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    digits: Experiment,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = (
        "scores",
        "--data",
        "digits()",
        "--model",
        MODEL,
        "--recipe",
        RECIPE,
        "--models",
        4,
        "--share",
        0.5,
        "--out",
    )
    run(*base, "s.csv")
    shown = capsys.readouterr().out
    assert (
        "memorisation: model 4 of 4" in shown
        and "wrote s.csv: memorisation of 1437 training samples" in shown
    )
    first = (tmp_path / "s.csv").read_bytes()
    assert (
        failing(capsys, *base, "s.csv")
        == "eigenforget: s.csv: exists already; use --overwrite (overwrite=True) to replace it"
    )
    run(*base, "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == first, "a rerun gives the same bytes"
    run(*base, "s.csv", "--overwrite", "--seed", 1)
    assert (tmp_path / "s.csv").read_bytes() != first
    request = 'ranked(path="t.csv", n=30)'
    run(
        "unlearn",
        original,
        "--forget",
        request,
        "--method",
        "finetune(epochs=1)",
        "--out",
        "u.safetensors",
    )
    index: Index = digits.data.train_index
    scores = read_scores("t.csv")
    best = set(sorted(scores, key=lambda name: (-scores[name], name))[:30])
    record = read(tmp_path / "u.json")
    assert set(index.ids[split(parse(request, REQUESTS, "request"), index).forget]) == best
    assert parse(record.job["request"]["spec"], REQUESTS, "request") == parse(
        request, REQUESTS, "request"
    )
    assert record.outcome.status == "ok"


def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    anew = ("scores", "--data", "digits()", "--model", MODEL)
    for argv, line in (
        (
            ("scores", "--out", "s.csv"),
            "memorisation is estimated from models trained anew; give --data and --model",
        ),
        (
            ("scores", "--data", "digits()", "--out", "s.csv"),
            "memorisation is estimated from models trained anew; give --model",
        ),
        (
            ("scores", original, "--out", "s.csv"),
            f"memorisation is estimated from models trained anew, not from {original}; "
            "--score loss, ",
        ),
        (
            ("scores", "--score", "loss", "--out", "s.csv"),
            "--score loss takes one trained model; give its checkpoint",
        ),
        (
            ("scores", original, "--score", "loss", "--n", 20, "--sets", 1, "--out", "s.csv"),
            "--n and --sets belong to --score worst_case, not to loss",
        ),
        (
            (*anew, "--method", "identity()", "--out", "s.csv"),
            "--method belongs to --score worst_case, not to memorisation",
        ),
        (
            ("scores", original, "--score", "margin", "--share", 0.5, "--out", "s.csv"),
            "--share belongs to --score memorisation, not to margin",
        ),
        (
            ("scores", "none.safetensors", "--score", "loss", "--out", "s.csv"),
            "none.safetensors: there is no such file",
        ),
        ((*anew, "--models", 1, "--out", "s.csv"), "models=1 and share=0.7 do not work"),
        ((*anew, "--out", "s.txt"), "s.txt: scores are kept in .csv, .jsonl or .ndjson files"),
        ((*anew, "--out", "folder.csv"), "folder.csv is a folder; scores go into a file"),
        ((*anew, "--out", "file/s.csv"), "file/s.csv cannot be written: "),
        (
            (*anew, "--layer", "tail", "--models", 2, "--share", 0.5, "--out", "s.csv"),
            "no layer 'tail'; the model has: ",
        ),
        (
            ("scores", original, "--score", "loss", "--layer", "tail", "--out", "s.csv"),
            "no layer 'tail'; the model has: ",
        ),
        (
            ("scores", original, "--score", "lossy", "--out", "s.csv"),
            'Invalid value "lossy" for --score',
        ),
    ):
        said = failing(capsys, *argv)
        assert said.splitlines()[-1].startswith(f"eigenforget: {line}"), said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_the_worst_case_is_searched_from_the_checkpoint_and_forgotten(
    original: Path, tmp_path: Path, digits: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hard.csv"
    search = ("--score", "worst_case", "--method", "identity()", "--n", 20, "--sets", 1)
    run("scores", original, *search, "--out", out)
    assert f"--forget 'worst_case(path=\"{out}\", n=20)'" in capsys.readouterr().out
    loss = tmp_path / "loss.csv"
    run("scores", original, "--score", "loss", "--out", loss)
    easiest = sorted(read_scores(loss).items(), key=lambda item: item[1])[:20]
    request = parse(f'worst_case(path="{out}", n=20)', REQUESTS, "request")
    index = digits.data.train_index
    assert {str(i) for i in index.ids[request.select(index)]} == {name for name, _ in easiest}
