"""A method, a metric and an audit of one's own file in a plan: workers, keys, errors, records."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky.backend.reduction import dumps

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.data import DATASETS
from eigenforget.evaluation.audits import AUDITS
from eigenforget.experiments.bench import read_plan
from eigenforget.experiments.bench.jobs import MethodJob, changed_files
from eigenforget.experiments.bench.work import WorkerContext, do
from eigenforget.experiments.bench.workers import do_packed
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES
from tests.bench_plans import SKIPPED
from tests.experiments.bench.helpers import bench

METHOD = """
import torch
from beside_own_method import FACTOR

def halve(task, *, factor: float = 1.0):
    with torch.no_grad():
        for weight in task.model.parameters():
            weight.mul_(factor * FACTOR)
    return task.model

def broken(task):
    torch.zeros(2) @ torch.zeros(3)
"""
MEASURES = """
import torch
from eigenforget.core.types import Score
from eigenforget.evaluation.metrics import PanelMetric

class Largest(PanelMetric):
    name = "largest"
    reads = "logits"

    def __init__(self):
        super().__init__()
        self.add_state("top", torch.tensor(-1e9, dtype=torch.float64), dist_reduce_fx="max")

    def update(self, part, batch, outputs):
        if part == "forget":
            self.top = torch.maximum(self.top, outputs.logits.double().max())

    def measure(self):
        return (Score("largest", float(self.top), "logit", "reference", (-1e9, 1e9)),)

def share(evidence, seed, *, above: float = 0.9):
    return float((evidence.parts["forget"].logits.max(axis=1) > above).mean())
"""
PLAN = f"""
data = "digits()"
model = "mlp(hidden=(8,))"
recipe = "recipe(epochs=1, batch_size=64)"
skip = {list(SKIPPED)}
metric = "python(path='measures.py:Largest')"
audit = "python(path='measures.py:share', above=5.0)"
oracles = [10]
[[grid]]
request = "by_class(label=3)"
method = ["python(path='mine.py:halve', factor=0.9)", "python(path='mine.py:broken')"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METHOD)
    Path("beside_own_method.py").write_text("FACTOR = 0.5\n")
    Path("measures.py").write_text(MEASURES)
    Path("plan.toml").write_text(PLAN)
    return tmp_path


PARTS = """
from torch import nn

def net(num_classes, input_shape, seed, *, width: int = 4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))

def sets():
    pass

def threes(index, *, label: int = 3):
    return index.labels == label

def fit(model, data, seed, *, epochs: int = 2):
    pass
"""


def job(path: str = "plan.toml") -> MethodJob:
    return read_plan(path).jobs[0]


@pytest.mark.parametrize("backend", ["processes", "sequential"])
def test_own_parts_run_in_a_plan_wherever_the_work_is_done(folder: Path, backend: str) -> None:
    made = bench(folder / "store", read_plan("plan.toml"), backend)
    assert made.run(made.outline()) == {"ok": 1, "failed": 1}
    halved, broken = (made.store.result(job) for job in made.jobs())
    assert halved is not None and broken is not None
    assert broken.outcome.reason.startswith("mine.py, line 12: RuntimeError")
    assert {"largest", "share"} <= {score.name for score in halved.scores}
    assert {"file:mine.py", "file:measures.py"} <= halved.inputs.keys()
    assert halved.job["measurement"]["metrics"] == ["measures.py:Largest"]


@pytest.mark.parametrize(
    ("registry", "spec"),
    [
        (DATASETS, "python(path='parts.py:sets')"),
        (MODELS, "python(path='parts.py:net', width=5)"),
        (RECIPES, "python(path='parts.py:fit', epochs=3)"),
        (REQUESTS, "python(path='parts.py:threes', label=4)"),
        (METHODS, "masked(inner=python(path='mine.py:halve', factor=0.5))"),
        (AUDITS, "python(path='measures.py:share', above=2.0)"),
    ],
)
def test_every_kind_of_ones_own_reaches_another_process(
    folder: Path, registry: Any, spec: str
) -> None:
    (folder / "parts.py").write_text(PARTS)
    part = registry.parse(spec)
    again = pickle.loads(bytes(dumps(part)))
    assert again == part and type(again) is type(part) and spell(again) == spell(part)


def test_a_change_of_own_code_is_another_job(folder: Path) -> None:
    whole = Path("plan.toml").read_text()
    inner = whole.replace(
        "[\"python(path='mine.py:halve', factor=0.9)\"",
        "[\"masked(inner=python(path='mine.py:halve'))\"",
    )
    Path("inner.toml").write_text(inner)
    first = [job(), job("inner.toml")]
    assert [job().digest, job("inner.toml").digest] == [item.digest for item in first]
    Path("beside_own_method.py").write_text("FACTOR = 0.25  # another\n")
    second = [job(), job("inner.toml")]
    assert all(a.digest != b.digest for a, b in zip(first, second, strict=True))
    Path("mine.py").write_text(METHOD + "\n")
    assert all(
        a.digest != b.digest for a, b in zip(second, [job(), job("inner.toml")], strict=True)
    )
    before = job().study.digest
    Path("measures.py").write_text(MEASURES + "\n")
    assert job().study.digest != before


def test_a_file_that_changes_under_a_running_bench_fails_its_jobs(folder: Path) -> None:
    made = bench(folder / "store", read_plan("plan.toml"))
    own = made.jobs()[0]
    assert own.digest and changed_files(own) == []
    context, packed = WorkerContext(made.store), bytes(dumps(own))
    Path("beside_own_method.py").write_text("FACTOR = 0.25  # another\n")
    assert changed_files(own) == ["mine.py:halve imports beside_own_method"]
    for outcome in (do(own, context), do_packed(packed, context)):
        assert outcome.status == "failed" and "beside_own_method changed" in outcome.reason
    Path("mine.py").write_text("def halve(task)\n")
    assert "mine.py, line 1" in do_packed(packed, context).reason


def test_a_wrong_metric_of_a_plan_is_named_with_its_line(folder: Path) -> None:
    del folder
    Path("wrong.toml").write_text(PLAN.replace("Largest", "Nope"))
    with pytest.raises(EigenforgetError, match=r"wrong\.toml, line 6: metric .*no 'Nope'"):
        read_plan("wrong.toml")
