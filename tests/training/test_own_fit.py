"""Training by one's own function: seeds, costs, and what it may return."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from eigenforget import train
from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.data import DATASETS
from eigenforget.data.sources import JoinedSource, TensorSource
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.model_cache import identity_of
from eigenforget.models import MODELS
from eigenforget.models.checkpoint import model_digest
from eigenforget.requests import ByClass
from eigenforget.training.engine import Engine
from eigenforget.training.own_fit import as_dataset, fit_own, recipe_of_function
from eigenforget.training.recipe import RECIPES

LOOP = """
import torch
from torch.utils.data import DataLoader

def fit(model, data, seed, *, epochs: int = 2):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
"""


def test_a_loop_of_ones_own_makes_originals_and_oracles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    monkeypatch.chdir(tmp_path)
    recipe = RECIPES.parse("python(path='train.py:fit', epochs=3)")
    assert spell(recipe) == "python(path='train.py:fit', epochs=3)"
    experiment = Experiment(
        DATASETS.parse("digits()"),
        MODELS.parse("mlp(hidden=(16,))"),
        recipe,
        ByClass(label=3),
        Engine(device="cpu"),
    )
    state, rows = torch.random.get_rng_state(), list[Any]()
    oracle = experiment.train(seed=1, without_forget=True, log=rows.append)
    assert torch.equal(torch.random.get_rng_state(), state) and len(rows) == 1
    again = experiment.train(seed=1, without_forget=True)
    assert model_digest(again.model) == model_digest(oracle.model)
    assert model_digest(experiment.train(seed=2).model) != model_digest(oracle.model)
    assert oracle.cost["trained_samples"] == 3 * len(experiment.retain)
    batch = next(experiment.forget.batches(1000))
    with torch.no_grad():
        predicted = oracle.model(batch.inputs).argmax(1)
    assert (predicted == 3).float().mean() < 0.1, "it never saw a 3"
    before = identity_of(experiment, "oracle", 1)
    (tmp_path / "train.py").write_text(LOOP + "# changed\n")
    assert identity_of(experiment, "oracle", 1) != before, "other code is another model"


def given(model: nn.Module, data: Any, seed: int) -> Any:
    del seed
    x, y = next(iter(DataLoader(data, batch_size=4)))
    assert x.shape == (4, 3) and y.dtype == torch.int64
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.weight.add_(1)  # type: ignore[operator]
    return other


def other_model(model: nn.Module, data: Any, seed: int) -> Any:
    del model, data, seed
    return nn.Linear(7, 7)


def number(model: nn.Module, data: Any, seed: int) -> Any:
    del model, data, seed
    return 3


def freezes(model: nn.Module, data: Any, seed: int) -> None:
    del data, seed
    model.requires_grad_(False)


def test_frozen_parameters_stay_as_they_were_and_others_are_not_frozen() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    data = torch.randn(8, 3), torch.arange(8) % 2
    for function in (given, freezes):
        trained = train(model, data, recipe_of_function(function)())
        assert trained.weight.requires_grad and not trained.bias.requires_grad


def broken(model: nn.Module, data: Any, seed: int) -> None:
    del data, seed
    model.weight.data.fill_(float("nan"))  # type: ignore[union-attr, operator]


def test_a_model_that_is_returned_is_taken() -> None:
    model = nn.Linear(3, 2)
    trained = train(model, (torch.randn(8, 3), torch.arange(8) % 2), recipe_of_function(given)())
    assert torch.equal(trained.weight, model.weight + 1)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (other_model, EigenforgetError, "other_model returned .* other names or shapes"),
        (number, EigenforgetError, "number must train the model in place or return one, got int"),
        (broken, Diverged, "broken diverged: weight"),
    ],
)
def test_what_is_no_model_of_these_weights_is_one_line(
    function: Any, error: type[Exception], message: str
) -> None:
    data = torch.randn(8, 3), torch.arange(8) % 2
    with pytest.raises(error, match=message):
        train(nn.Linear(3, 2), data, recipe_of_function(function)())


def test_a_function_of_other_arguments_is_one_line() -> None:
    with pytest.raises(EigenforgetError, match=r"is called as .*\(model, data, seed\)"):
        recipe_of_function(lambda model: model)


def named(model: nn.Module, data: Any, seed: int) -> None:
    del seed
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert set(batch) == {"a", "labels"} and batch["labels"].tolist() == [0, 1, 0, 1]
    model.train()
    assert model(a=batch["a"]).shape == (4, 2)


class Named(nn.Linear):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return super().forward(a)


def test_named_inputs_are_dicts_with_their_labels_and_passes_of_them_count() -> None:
    source, engine = TensorSource({"a": torch.ones(4, 3)}, torch.arange(4) % 2), Engine("cpu")
    fit_own(recipe_of_function(named)(), Named(3, 2), source, engine=engine, seed=0)
    assert engine.meter.trained == 4


def test_samples_that_are_joined_are_no_dataset() -> None:
    part = TensorSource(torch.ones(4, 3), torch.arange(4) % 2)
    with pytest.raises(EigenforgetError, match="give one"):
        as_dataset(JoinedSource((part, part)))


def test_a_partial_is_a_recipe_and_a_field_without_a_value_is_one_line() -> None:
    def loop(model: nn.Module, data: Any, seed: int, *, add: float) -> None:
        del data, seed
        model.bias.data.add_(add)  # type: ignore[union-attr, operator]

    model, data = nn.Linear(3, 2), (torch.randn(8, 3), torch.arange(8) % 2)
    trained = train(model, data, partial(loop, add=2.0))
    assert torch.equal(trained.bias, model.bias + 2)
    with pytest.raises(EigenforgetError, match="add"):
        train(model, data, loop)


def test_types_that_are_imported_for_checkers_alone_do_no_harm() -> None:
    def loop(model: Elsewhere, data: Any, seed: int, *, add: float = 1.0) -> None:  # type: ignore[name-defined]  # noqa: F821
        del data, seed
        model.bias.data.add_(add)

    model = nn.Linear(3, 2)
    trained = train(model, (torch.randn(8, 3), torch.arange(8) % 2), loop)
    assert torch.equal(trained.bias, model.bias + 1)
