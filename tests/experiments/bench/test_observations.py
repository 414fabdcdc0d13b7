"""Outputs of originals and oracles are taken once in a process, within a bound of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.evaluation.board import Panel
from eigenforget.evaluation.evidence import Observation
from eigenforget.experiments.bench import Plan, work
from eigenforget.experiments.bench.observations import ObservationCache, memory_of
from eigenforget.experiments.bench.work import load_experiment
from eigenforget.models.checkpoint import model_digest
from eigenforget.requests.by_class import ByClass
from tests import bench_plans
from tests.experiments.bench.helpers import bench, scores


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The digest of each model that a panel observes."""
    found: list[str] = []
    observe = Panel.observe

    def noted(panel: Panel, model: nn.Module) -> Observation:
        found.append(model_digest(model))
        return observe(panel, model)

    monkeypatch.setattr(Panel, "observe", noted)
    work._last.clear()
    yield found
    work._last.clear()


def two_seeds() -> Plan:
    """Two methods on two training seeds, whose oracles are the same."""
    methods = ("head_mask()", "finetune(epochs=1)")
    plans = [bench_plans.plan(*methods, seed=seed) for seed in (0, 1)]
    return plans[0]._replace(jobs=tuple(job for plan in plans for job in plan.jobs))


def results(store: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> list[Any]:
    monkeypatch.setattr(work, "_observations", ObservationCache(most_bytes))
    made = bench(store, two_seeds())
    assert made.run(made.outline()) == {"ok": 4}
    found = [made.store.result(job) for job in made.jobs()]
    for study in made.by_study():
        baselines = made.store.baselines(study)
        assert baselines is not None
        found += baselines.records
    return [scores([item]) for item in found]


def test_each_original_and_oracle_is_observed_once_and_scores_are_the_same_bits(
    looked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = results(tmp_path / "shared", monkeypatch, 2**30)
    models, looks = len(set(looked)), len(looked)
    looked.clear()
    work._last.clear()
    anew = results(tmp_path / "anew", monkeypatch, 0)
    assert shared == anew
    # two originals, two oracles and one unlearned model for each of four jobs
    assert (models, looks) == (8, 8)
    # anew, each of the two studies of both stages has its three models
    assert len(looked) == 4 + 4 * 3


def test_other_weights_data_and_layers_are_other_outputs() -> None:
    kept = ObservationCache()
    calls: list[nn.Module] = []

    def observe(model: nn.Module) -> Observation:
        calls.append(model)
        return {}

    studies = [
        bench_plans.study(),
        bench_plans.study(seed=1, oracles=(7,), skip=(), map_points=5),  # no other outputs
        bench_plans.study(layers=("0",)),
        bench_plans.study(precision="bf16-mixed"),
        bench_plans.study(request=ByClass(label=4)),
    ]
    models = [nn.Linear(2, 2) for _ in range(2)]
    for study in studies:
        once = kept.observer(study, load_experiment(study, "cpu"), observe)
        for model in models:
            once(model)
    assert len(calls) == 2 * 4
    with torch.no_grad():
        models[0].weight.add_(1.0)  # a model that was changed meanwhile is looked at again
    once(models[0])
    assert len(calls) == 2 * 4 + 1


def test_what_was_used_least_recently_goes_first() -> None:
    study = bench_plans.study()
    experiment = load_experiment(study, "cpu")
    panel = experiment.panel()
    models = [experiment.new_model(seed) for seed in range(3)]
    size = memory_of(panel.observe(models[0]))
    samples = len(experiment.data.train_index.ids) + len(experiment.data.test_index.ids)
    assert size == samples * (4 * (10 + 16) + 8 + 8)  # logits and features, labels and positions
    kept = ObservationCache(2 * size)
    once = kept.observer(study, experiment, panel.observe)
    first, second, _ = (once(models[number]) for number in (0, 1, 0))
    once(models[2])
    assert once(models[0]) is first
    assert once(models[1]) is not second
