"""One of each kind from a single file of the user's: they are named by path, run and evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget import evaluate
from eigenforget.core.spec import spell
from eigenforget.data import DATASETS
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS, personal_fields
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

FILE = '''
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.data import Arrays, from_arrays
from eigenforget.evaluation.metrics import PanelMetric


def points(*, n: int = 60):
    """Three clouds of points."""
    rng = np.random.default_rng(0)
    sides = []
    for side in ("train", "test"):
        labels = np.arange(n) % 3
        sides.append(Arrays(rng.normal(size=(n, 4)) + labels[:, None], labels))
    return from_arrays(train=sides[0], test=sides[1])


def net(num_classes, input_shape, seed, *, width: int = 8):
    return nn.Sequential(nn.Linear(*input_shape, width), nn.ReLU(), nn.Linear(width, num_classes))


@configured
class FirstOf:
    """The first samples of a class."""

    name: ClassVar[str] = "first_of"
    personal: ClassVar[dict[str, str]] = {}
    label: int
    n: int = 5
    duplicates: str = "error"

    def select(self, index):
        return np.flatnonzero(index.labels == self.label)[: self.n]


def forget_by_noise(task, *, scale: float = 0.1):
    student = task.student()
    g = torch.Generator().manual_seed(task.seed)
    with torch.no_grad():
        for p in student.parameters():
            p += scale * torch.randn(p.shape, generator=g)
    return student.eval()


class ForgetCount(PanelMetric):
    """Number of samples of the forget set."""

    name = "forget_count"
    reads = "logits"

    def __init__(self):
        super().__init__()
        self.add_state("seen", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @classmethod
    def create(cls, context):
        return cls()

    def update(self, part, batch, outputs):
        self.seen = self.seen + (len(batch.labels) if part == "forget" else 0)

    def measure(self):
        return (Score("forget_count", float(self.seen), "1", "reference", (0.0, 1e9)),)


def parts_seen(evidence, seed):
    return float(len(evidence.parts))
'''


def test_one_of_each_kind_from_ones_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    specs = {
        "data": (DATASETS, "python(path='mine.py:points', n=45)"),
        "model": (MODELS, "python(path='mine.py:net', width=6)"),
        "request": (REQUESTS, "python(path='mine.py:FirstOf', label=1)"),
        "method": (METHODS, "python(path='mine.py:forget_by_noise', scale=0.2)"),
    }
    parsed = {key: registry.parse(text) for key, (registry, text) in specs.items()}
    assert {key: spell(value) for key, value in parsed.items()} == {
        key: text for key, (_, text) in specs.items()
    }
    assert personal_fields(parsed["request"])["mine.py:FirstOf"].kinds == {}
    experiment = Experiment(
        parsed["data"], parsed["model"], Recipe(epochs=2), parsed["request"], Engine(device="cpu")
    )
    original = experiment.train(seed=0).model
    unlearned = experiment.unlearn(original, parsed["method"], seed=0).model
    found = evaluate(
        {"original": original, "mine": unlearned},
        forget=experiment.forget,
        retain=experiment.retain,
        test=experiment.data.test,
        oracles={"retrained": experiment.train(seed=1, without_forget=True).model},
        metrics=["python(path='mine.py:ForgetCount')"],
        audits=["python(path='mine.py:parts_seen')"],
        skip=measurement_names(),
        engine=Engine(device="cpu"),
    )
    assert found["mine"]["forget_count"].value == 5 == len(experiment.split.forget)
    assert found["mine"]["parts_seen"].value == 3
    assert "python(path='mine.py:points', n=45)" in str(experiment.job())
