"""One thing of every kind from a file of one's own, used on the command line from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget.cli import main
from eigenforget.record import read_folder

MINE = '''
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.data.bundle import Arrays, from_arrays
from eigenforget.evaluation.metrics import PanelMetric
from eigenforget.methods import Method


@configured
class Blobs:
    """Two features, three classes."""

    name: ClassVar[str] = "blobs"
    rows: int = 60

    def load(self):
        draw = np.random.default_rng(0)
        labels = np.arange(self.rows) % 3
        inputs = (draw.normal(size=(self.rows, 2)) + 4 * np.eye(3, 2)[labels]).astype(np.float32)
        ids = [f"person-{row}" for row in range(self.rows)]
        whole = Arrays(inputs=inputs, labels=labels, ids=ids)
        cut = 2 * self.rows // 3
        rows = np.arange(self.rows)
        return from_arrays(train=whole.rows(rows[:cut]), test=whole.rows(rows[cut:]))


@configured
class Tiny:
    """A network of one hidden layer."""

    name: ClassVar[str] = "tiny"
    width: int = 8

    def build(self, num_classes, input_shape, seed):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(2, self.width), nn.ReLU(), nn.Linear(self.width, num_classes)
        )


@configured
class Everyone:
    """All samples of one class."""

    name: ClassVar[str] = "everyone"
    label: int = 0
    secret: str = "nobody"
    duplicates: str = "error"

    def select(self, index):
        return np.flatnonzero(index.labels == self.label)


@configured
class Halve(Method):
    """Halves every weight of the last layer."""

    name: ClassVar[str] = "halve"
    source: ClassVar[str] = "this test"
    needs: ClassVar[tuple[str, ...]] = ()
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[str] = "unlearned"
    passes: ClassVar[str] = "none"
    factor: float = 0.5

    def __call__(self, task):
        student = task.student()
        with torch.no_grad():
            student[-1].weight.mul_(self.factor)
        return student.eval()


class LargestLogit(PanelMetric):
    """The largest logit on the forget set."""

    name: ClassVar[str] = "largest_logit"
    reads: ClassVar[str] = "logits"

    def __init__(self):
        super().__init__()
        self.add_state("top", torch.tensor(-1e9, dtype=torch.float64), dist_reduce_fx="max")

    @classmethod
    def create(cls, context):
        return cls()

    def update(self, part, batch, outputs):
        if part == "forget":
            self.top = torch.maximum(self.top, outputs.logits.double().max())

    def measure(self):
        return (Score("largest_logit", float(self.top), "logit", "reference", (-1e9, 1e9)),)


@configured
class MeanLogit:
    """The mean logit on the forget set."""

    name: ClassVar[str] = "mean_logit"
    reads: ClassVar[str] = "logits"

    def __call__(self, evidence, seed):
        value = float(evidence.parts["forget"].logits.mean())
        return (Score("mean_logit", value, "logit", "reference", (-1e9, 1e9)),)
'''


def own(name: str, fields: str = "") -> str:
    return f'python(path="mine.py:{name}"{", " if fields else ""}{fields})'


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    parts = ["--data", own("Blobs"), "--model", own("Tiny", "width=6")]
    request = own("Everyone", 'label=1, secret="Jane Roe"')
    train = ["train", *parts, "--recipe", "recipe(epochs=2, batch_size=8)"]
    main([*train, "--out", "original.safetensors"])
    main([*train, "--without", request, "--seed", "1", "--out", "oracle.safetensors"])
    unlearn = ["unlearn", "original.safetensors", "--forget", request]
    main([*unlearn, "--method", own("Halve", "factor=0.25"), "--out", "halved.safetensors"])
    main(["keygen", "--salt", "salt"])
    main(
        [
            "evaluate",
            "halved.safetensors",
            "--original",
            "original.safetensors",
            "--oracle",
            "oracle.safetensors",
            "--forget",
            request,
            "--skip",
            "relearning",
            "--metric",
            own("LargestLogit"),
            "--audit",
            own("MeanLogit"),
            "--out",
            "results",
            "--hash-ids",
            "salt",
        ]
    )
    return tmp_path / "results"


def test_one_of_each_kind_from_a_file(results: Path) -> None:
    records = read_folder(results / "records")
    assert [item.name for item in records] == ["original", "oracle 1", "halved"]
    for item in records:
        scores = {score.name: score.value for score in item.scores}
        assert scores["largest_logit"] is not None and scores["mean_logit"] is not None
    job = records[-1].job
    assert job["method"]["spec"] == "python(path='mine.py:Halve', factor=0.25)"
    assert job["data"]["spec"] == "python(path='mine.py:Blobs')"
    header, *rows = (results / "table.csv").read_text().splitlines()
    assert "largest_logit" in header + "".join(rows) and len(rows) >= 3
    assert "largest logit" in (results / "report.html").read_text().replace("_", " ")


def test_a_request_that_declares_nothing_leaks_nothing(results: Path) -> None:
    text = "".join(path.read_text() for path in (results / "records").glob("*.json"))
    assert "Jane Roe" not in text and "person-" not in text and "mine.py:Everyone" in text
