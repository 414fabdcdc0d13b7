"""A training trace: what it holds, that looking changes nothing, and that it is not counted as a
cost.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eigenforget.data import DATASETS
from eigenforget.evaluation.observe import Glance
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods import METHODS
from eigenforget.models import MODELS, checkpoint
from eigenforget.requests import REQUESTS
from eigenforget.training.engine import Engine
from eigenforget.training.log import both, unwatched
from eigenforget.training.recipe import Recipe


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    data, model = (
        DATASETS.parse("digits()"),
        MODELS.parse("mlp(hidden=(16,))"),
    )
    request = REQUESTS.parse("by_class(label=3)")
    return Experiment(data, model, Recipe(epochs=2), request, Engine(device="cpu"))


@pytest.fixture(scope="module")
def original(experiment: Experiment) -> torch.nn.Module:
    return experiment.train(seed=0).model


@pytest.mark.parametrize(
    "spec",
    [
        "muda(alternations=2)",
        "scrub(epochs=3, msteps=2)",
        "unsir()",
        "esc_t(epochs=1)",
        "finetune(epochs=2)",
    ],
)
def test_looking_changes_no_bit_of_the_model_and_no_count_of_its_cost(
    spec: str, experiment: Experiment, original: torch.nn.Module
) -> None:
    method = METHODS.parse(spec)
    rows: list[Any] = []
    blind = experiment.unlearn(original, method, seed=3)
    seen = experiment.unlearn(original, method, seed=3, log=rows.append)
    assert checkpoint.model_digest(seen.model) == checkpoint.model_digest(blind.model)
    for name in ("trained_samples", "forwarded_samples"):
        assert seen.cost[name] == blind.cost[name]
    assert rows and all(set(row) >= {"epoch", "phase", "loss"} for row in rows)
    if "esc_t" in spec:  # it trains a mask, not the model
        assert not any("da" in row for row in rows)
    else:
        assert {"da", "forget_accuracy", "retain_accuracy"} <= set(rows[-1])


def test_the_last_glance_is_the_accuracy_of_the_model_that_came_out(
    experiment: Experiment, original: torch.nn.Module
) -> None:
    rows: list[Any] = []
    made = experiment.unlearn(
        original, METHODS.parse("finetune(epochs=1)"), seed=0, log=rows.append
    )
    glance = Glance(
        experiment.engine, original, (experiment.forget, experiment.retain), k=9, layer=None, seed=0
    )
    assert {
        name: rows[-1][name] for name in ("da", "forget_accuracy", "retain_accuracy")
    } == glance(made.model)
    # By hand: every forget sample (there are fewer than the glance takes), through plain torch.
    made.model.eval()
    inputs, labels = experiment.forget.inputs, experiment.forget.labels()
    assert len(labels) <= 256
    right = float(np.mean(made.model(inputs).argmax(1).numpy() == labels))
    assert rows[-1]["forget_accuracy"] == pytest.approx(right, abs=1e-12)


def test_time_spent_looking_is_taken_off(
    experiment: Experiment, original: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: Glance, model: torch.nn.Module) -> dict[str, float]:
        time.sleep(0.1)
        return {}

    monkeypatch.setattr(Glance, "__call__", slow)
    method = METHODS.parse("finetune(epochs=2)")
    started = time.perf_counter()
    made = experiment.unlearn(original, method, seed=0, log=lambda row: None)
    assert made.seconds <= time.perf_counter() - started - 0.2


def test_a_shown_row_goes_to_both() -> None:
    first: list[Any] = []
    second: list[Any] = []
    log = both(first.append, both(second.append, unwatched("title", 3)))
    log({"epoch": 0})
    assert first == second == [{"epoch": 0}]


def test_features_without_an_eigenspace_leave_da_out(
    experiment: Experiment, original: torch.nn.Module
) -> None:
    dead = replace(experiment).new_model(0)
    with torch.no_grad():
        for parameter in dead.parameters():
            parameter.zero_()
    found = Glance(
        experiment.engine, dead, (experiment.forget, experiment.retain), k=9, layer=None, seed=0
    )(dead)
    assert set(found) == {"forget_accuracy", "retain_accuracy"}
