"""Scores of training samples: closed forms and loops in plain Python, an estimator with a known
answer, and the command's round trip.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, nn

from eigenforget.cli import main
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.core.types import Index
from eigenforget.data.sources import TensorSource
from eigenforget.experiments import memorisation
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.memorisation import Subsampling, logits_of, memorisation_of, subsets
from eigenforget.models import MODELS, checkpoint
from eigenforget.record import read
from eigenforget.requests import REQUESTS, model_scores, read_scores, split, subsampled_memorisation
from eigenforget.training.engine import Engine
from eigenforget.training.log import unwatched
from eigenforget.training.recipe import Recipe

RNG = np.random.default_rng(5)


# ---- formulas


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


def test_every_sample_is_in_as_many_subsets_and_each_is_drawn_for_itself() -> None:
    found = subsets(4000, Subsampling(models=10), seed=3)
    assert found.shape == (10, 4000) and found.dtype == bool and (found.sum(axis=0) == 7).all()
    assert np.abs(found.mean(axis=1) - 0.7).max() < 4 * math.sqrt(0.21 / 4000)
    # Two samples meet as often as independent draws would: (7/10)² of all models.
    together = (found[:, :2000] & found[:, 2000:]).mean()
    assert abs(together - 0.49) < 4 * math.sqrt(0.49 * 0.51 / 20000)
    assert np.array_equal(
        found, subsets(4000, Subsampling(models=10), seed=3)
    ) and not np.array_equal(found, subsets(4000, Subsampling(models=10), seed=4))


@pytest.mark.parametrize(
    ("models", "share"),
    [(1, 0.5), (0, 0.5), (-3, 0.5), (20, 0.0), (20, 1.0), (20, 0.01), (20, 0.99), (20, math.nan)],
)
def test_a_design_without_models_on_both_sides_is_refused(models: int, share: float) -> None:
    with pytest.raises(
        EigenforgetError,
        match=f"^{models} models on a share {share:g} of the samples: each sample needs models",
    ):
        Subsampling(models=models, share=share).check()


# ---- the estimator, with a classifier of which the memorisation is known


class Counts(nn.Module):
    """p(y | x) is the share of label y among the training samples with this x, and uniform where
    there is none.
    """

    def __init__(self, points: int, classes: int) -> None:
        super().__init__()
        self.counts = nn.Parameter(torch.zeros(points, classes))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.counts[x.long().flatten()]
        total = rows.sum(1, keepdim=True)
        # exp(−60) stands for a probability of 0.
        return torch.where(
            total > 0, (rows / total.clamp_min(1)).clamp_min(1e-26).log(), torch.zeros_like(rows)
        )


class Toy:
    """As much of an Experiment as memorisation asks for."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points, self.classes = int(points.max()) + 1, int(labels.max()) + 1
        self.data: Any = type(
            "Data", (), {"train": TensorSource(points[:, None].float(), labels)}
        )()
        self.recipe, self.engine, self.layer = Recipe(epochs=1), Engine(device="cpu"), "counts"

    def new_model(self, seed: int) -> nn.Module:
        return Counts(self.points, self.classes)


def counted(model: Any, source: Any, *args: Any, **settings: Any) -> None:
    with torch.no_grad():
        for x, y in zip(source.inputs[:, 0].long().tolist(), source.targets.tolist(), strict=True):
            model.counts[x, y] += 1


def test_memorisation_of_a_classifier_that_counts_is_the_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone at its point: 1 − 1/C. Mislabelled among ten others: about 1/n. Typical: nothing."""
    points = torch.tensor([0] * 12 + [1] * 11 + [2, 3, 4])
    labels = torch.tensor([0] * 11 + [1] + [1] * 11 + [0, 1, 2])
    monkeypatch.setattr(memorisation, "fit_recipe", counted)
    monkeypatch.setattr(
        memorisation,
        "logits_of",
        lambda model, source, engine, layer: model(source.inputs).detach().numpy(),
    )
    toy: Any = Toy(points, labels)
    found = memorisation_of(toy, Subsampling(models=400, share=0.5), seed=1, watch=unwatched)
    assert found[23:].tolist() == pytest.approx([2 / 3] * 3, abs=1e-6), (
        "seen: 1, unseen: one of three classes"
    )
    assert found[12:23].tolist() == pytest.approx([0.0] * 11, abs=0.02), (
        "the others at its point have its label"
    )
    # Brute force: the mislabelled one among k of 11 others has p = 1/(k+1) when it is seen and 0
    # when not.
    share = sum(math.comb(11, k) / 2**11 / (k + 1) for k in range(12))
    assert found[11] == pytest.approx(share, abs=0.02)
    again = memorisation_of(toy, Subsampling(models=400, share=0.5), seed=1, watch=unwatched)
    assert np.array_equal(found, again)


def test_models_are_trained_on_their_subsets_with_seeds_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[tuple[list[float], int]] = []

    def spy(model: Any, source: Any, recipe: Any, *, seed: int, **settings: Any) -> None:
        trained.append((source.inputs[:, 0].tolist(), seed))

    shown: list[tuple[str, int]] = []
    monkeypatch.setattr(memorisation, "fit_recipe", spy)
    monkeypatch.setattr(
        memorisation, "logits_of", lambda model, source, engine, layer: np.zeros((10, 2))
    )
    toy: Any = Toy(torch.arange(10), torch.arange(10) % 2)
    watch: Any = lambda title, total: shown.append((title, total))  # noqa: E731
    assert (
        memorisation_of(toy, Subsampling(models=4, share=0.5), seed=2, watch=watch).tolist()
        == [0.0] * 10
    )
    included = subsets(10, Subsampling(models=4, share=0.5), seed=2)
    assert [rows for rows, _ in trained] == [np.flatnonzero(row).tolist() for row in included]
    assert len({seed for _, seed in trained}) == 4
    assert shown == [(f"memorisation: model {i} of 4", 1) for i in (1, 2, 3, 4)]


# ---- the command


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
        == "eigenforget: s.csv exists; say --overwrite to replace it"
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
            f"memorisation is estimated from models trained anew, not from {original}; --score loss, ",
        ),
        (
            ("scores", "--score", "loss", "--out", "s.csv"),
            "--score loss is read off one trained model; give its checkpoint",
        ),
        (
            ("scores", "none.safetensors", "--score", "loss", "--out", "s.csv"),
            "none.safetensors: there is no such file",
        ),
        ((*anew, "--models", 1, "--out", "s.csv"), "1 models on a share 0.7 of the samples"),
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


def test_half_precision_and_labels_outside_the_head() -> None:
    model, engine = nn.Linear(4, 3).half(), Engine(device="cpu")
    found = logits_of(model, TensorSource(torch.eye(4), torch.tensor([0, 1, 2, 0])), engine, None)
    expected = (model.weight.float() @ torch.eye(4)).T + model.bias.float()
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-6)
    with pytest.raises(EigenforgetError, match="label 3 is outside the model's head of 3 outputs"):
        logits_of(model, TensorSource(torch.eye(4), torch.tensor([0, 1, 3, 0])), engine, None)
