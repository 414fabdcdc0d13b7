"""Oracles from a user's own training: seeds, costs, and what cannot be one."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from eigenforget import Recipe, evaluate, train_oracles
from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.models.checkpoint import model_digest
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine

CPU = Engine(device="cpu")
CENTRES = 3 * torch.eye(3, 4)


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    return CENTRES[labels] + torch.randn(n, 4, generator=generator), labels


RETAIN = blobs(60, 1)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def fit(model: nn.Module, data: Any, seed: int, *, epochs: int = 4) -> None:
    del seed
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    model.train()
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=16, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def fit_all(data: Any, seed: int) -> nn.Module:
    model = net()
    fit(model, data, seed)
    return model


def digests(oracles: dict[str, ModelAndCost]) -> dict[str, str]:
    return {name: model_digest(made.model) for name, made in oracles.items()}


@pytest.mark.parametrize(
    ("training", "model"),
    [(fit, net), (partial(fit, epochs=5), net), ("recipe(epochs=4, batch_size=16)", net)],
    ids=["function", "partial", "recipe"],
)
def test_oracles_differ_by_seed_and_are_the_same_again(training: Any, model: Any) -> None:
    states = torch.random.get_rng_state(), np.random.get_state()[1], random.getstate()
    oracles = train_oracles(training, RETAIN, model=model, seeds=2, engine=CPU)
    assert torch.equal(torch.random.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert (np.random.get_state()[1] == states[1]).all()
    assert list(oracles) == ["oracle 1", "oracle 2"]
    assert len(set(digests(oracles).values())) == 2
    torch.manual_seed(99)  # what is drawn outside does not matter
    again = train_oracles(training, RETAIN, model=model, seeds=[2], engine=CPU)
    assert digests(again)["oracle 2"] == digests(oracles)["oracle 2"]
    for made in oracles.values():
        assert made.cost["trained_samples"] >= 4 * 60 and made.seconds > 0
        assert not made.model.training
        assert (made.model(RETAIN[0]).argmax(1) == RETAIN[1]).float().mean() > 0.8


def test_a_function_that_makes_its_model_needs_none_and_evaluate_takes_the_oracles() -> None:
    oracles = train_oracles(fit_all, RETAIN, seeds=3, engine=CPU)
    same = train_oracles(fit, RETAIN, model=net, seeds=3, engine=CPU)
    assert len(set(digests(oracles).values())) == 3 and list(oracles) == list(same)
    assert "trained_samples" not in oracles["oracle 1"].cost, "nobody saw its batches"
    original = net()
    fit(original, torch.utils.data.TensorDataset(*RETAIN), 0)
    found = evaluate(
        {"original": original},
        oracles=oracles,
        forget=blobs(15, 2),
        retain=RETAIN,
        test=blobs(30, 3),
        skip=("relearning",),
        engine=CPU,
    )
    assert found["original"]["retain_accuracy"].units is not None


def test_the_class_of_a_model_is_made_for_each_seed_and_data_is_the_users_own() -> None:
    seen = []

    class Own(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, row: int) -> Any:
            return RETAIN[0][row], int(RETAIN[1][row])

    def looks(model: nn.Module, data: Any, seed: int) -> None:
        seen.append((type(data), seed, model.weight.sum().item()))  # type: ignore[union-attr, operator]
        fit(model, data, seed)

    train_oracles(looks, Own(), model=partial(nn.Linear, 4, 3), seeds=(5, 7), engine=CPU)
    assert [(kind, seed) for kind, seed, _ in seen] == [(Own, 5), (Own, 7)]
    assert seen[0][2] != seen[1][2], "each starts from weights of its own"


def test_a_start_that_knows_the_retain_set_is_said() -> None:
    original = net()
    fit(original, torch.utils.data.TensorDataset(*RETAIN), 0)
    with pytest.warns(EigenforgetWarning, match="before it is trained"):
        train_oracles(fit, RETAIN, model=lambda: original, seeds=1, engine=CPU)


def test_an_oracle_that_learned_nothing_is_said() -> None:
    with pytest.warns(EigenforgetWarning, match="oracle 1 hardly knows"):
        train_oracles(lambda model, data, seed: None, RETAIN, model=net, seeds=1, engine=CPU)


def shared(model: nn.Module) -> Any:
    return lambda data, seed: model


def seedless(data: Any, seed: int) -> nn.Module:
    return fit_all(data, int(torch.manual_seed(0).initial_seed()))


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a model": (fit, {"model": net()}, "a function that makes"),
    "no model": (fit, {}, "say model=Net"),
    "a recipe without a model": (Recipe(), {}, "model="),
    "one argument too many": (fit_all, {"model": net}, r"fit\(model, data, seed\)"),
    "a model that needs arguments": (fit, {"model": nn.Linear}, "lambda: Net"),
    "no module": (fit, {"model": dict}, "dict"),
    "nothing returned": (lambda data, seed: None, {}, "NoneType"),
    "one model for all": (shared(net()), {}, "the same model"),
    "one seed for all": (seedless, {}, "fit: oracle 2 has exactly the weights of oracle 1"),
    "other outputs": (lambda data, seed: nn.Linear(4, 2), {}, "label"),
    "other inputs": (lambda data, seed: nn.Linear(5, 3), {}, "oracle 1: .*does not run"),
    "no seeds": (fit, {"model": net, "seeds": 0}, "seeds"),
    "a seed twice": (fit, {"model": net, "seeds": (1, 1)}, "seeds"),
    "seeds in words": (fit, {"model": net, "seeds": "3"}, "seeds"),
    "a recipe that is none": (3, {"model": net}, "recipe must be"),
}


@pytest.mark.filterwarnings("ignore::eigenforget.EigenforgetWarning")
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_an_oracle_is_one_line(case: str) -> None:
    training, more, message = WRONG[case]
    with pytest.raises(EigenforgetError, match=message):
        train_oracles(training, RETAIN, **{"seeds": 2, "engine": CPU, **more})


def broken(model: nn.Module, data: Any, seed: int) -> nn.Module:
    del data, seed
    model[0].weight.data.fill_(float("nan"))  # type: ignore[index, union-attr, operator]
    return model


@pytest.mark.parametrize("more", [{"model": net}, {}], ids=["given", "made"])
def test_an_oracle_that_diverged_is_named(more: dict[str, Any]) -> None:
    training = broken if more else lambda data, seed: broken(net(), data, seed)
    with pytest.raises(Diverged, match=r"oracle 1: .*0\.weight"):
        train_oracles(training, RETAIN, seeds=1, engine=CPU, **more)
