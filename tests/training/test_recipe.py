"""`train`: any data, a recipe or its spelling, and a copy that is trained."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.data.sources import TensorSource
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe, fit_recipe, train

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
ENGINE = Engine(device="cpu")
RECIPE = Recipe(epochs=20, batch_size=8)


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return fit_recipe(net(), TensorSource(X, Y), RECIPE, engine=ENGINE, seed=3)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X.numpy(), Y.numpy()),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True),
        TensorSource(X, Y),
    ],
    ids=["tensors", "arrays", "dataset", "loader", "source"],
)
def test_any_data_and_either_form_of_recipe(data: Any, trained: nn.Module) -> None:
    model, rows = net(), []
    found = train(model, data, "recipe(epochs=20, batch_size=8)", seed=3, log=rows.append)
    assert same(found, trained) and not found.training and len(rows) == 20
    assert same(model, net()) and model.training, "the given model stays as it is"
    assert (found(X).argmax(1) == Y).float().mean() > 0.9


def test_it_goes_on_from_the_weights_that_the_model_has(trained: nn.Module) -> None:
    again = train(trained, (X, Y), Recipe(epochs=1, batch_size=8, lr=1e-6), engine=ENGINE)
    torch.testing.assert_close(again[0].weight, trained[0].weight, rtol=0, atol=1e-3)
    assert not same(again, trained)


def test_types_stay_and_frozen_weights_do_not_move() -> None:
    model = net().half()
    model[0].requires_grad_(False)
    found = train(model, (X, Y), Recipe(epochs=2, batch_size=8), engine=ENGINE)
    assert all(p.dtype == torch.float16 for p in found.parameters())
    assert torch.equal(found[0].weight, model[0].weight)
    assert not torch.equal(found[2].weight, model[2].weight)


def test_augmentation_of_the_recipe_is_used() -> None:
    images = torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    plain, moved = (
        train(model, (images, Y[:20]), Recipe(epochs=1, batch_size=8, augment=name), engine=ENGINE)
        for name in ("none", "crop")
    )
    assert not same(plain, moved)


@pytest.mark.parametrize(
    ("labels", "recipe", "message"),
    [
        (Y + 1, "recipe(epochs=1)", "label 3"),
        (Y, "recipe(epochs=0)", "epochs"),
        (Y, "recipes()", "recipes"),
        (Y[:3], "recipe()", "40 .*3"),
        (Y, "recipe(augment='crop')", "augment"),
    ],
)
def test_what_is_wrong_is_one_line(labels: Any, recipe: str, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message) as error:
        train(net(), (X, labels), recipe, engine=ENGINE)
    assert "\n" not in str(error.value)


def test_a_training_that_diverges_leaves_the_model_as_it_was() -> None:
    model = net()
    before = copy.deepcopy(model)
    with pytest.raises(Diverged):
        train(model, (X * 1e30, Y), Recipe(epochs=2, batch_size=8, lr=1e10), engine=ENGINE)
    assert same(model, before)


class Snapshots(nn.Module):
    """A model that keeps the weights that each of its calls in training was made with."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[dict[str, torch.Tensor]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append({k: v.clone() for k, v in self.inner.state_dict().items()})
        return self.inner(inputs)


@pytest.mark.parametrize(("share", "kept"), [(0.3, 3), (0.95, 10)])
def test_averaged_weights_are_the_mean_of_the_last_steps(share: float, kept: int) -> None:
    inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    source = TensorSource(X.double(), Y)
    plain, averaged = (Recipe(epochs=2, batch_size=8, averaged=a) for a in (0.0, share))
    watched = Snapshots(copy.deepcopy(inner))
    last = fit_recipe(watched, source, plain, engine=ENGINE, seed=3).inner.state_dict()
    after = [*watched.seen[1:], last]
    assert len(after) == 10
    found = fit_recipe(copy.deepcopy(inner), source, averaged, engine=ENGINE, seed=3).state_dict()
    for name, tensor in found.items():
        mean = torch.stack([state[name].double() for state in after[-kept:]]).mean(0)
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, mean, rtol=1e-12, atol=1e-12)


def test_averaging_leaves_infinite_masks_and_counts_steps_not_batches() -> None:
    model = net()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    recipe = Recipe(epochs=2, batch_size=8, averaged=0.5)
    engine = Engine(device="cpu", accumulate=2)
    found = train(model, (X, Y), recipe, engine=engine)
    assert torch.equal(found.mask, model.mask)
    plain = train(net(), (X, Y), Recipe(epochs=2, batch_size=8), engine=engine)
    assert not same(found, plain), "6 steps, of which the last 3 are averaged"


def test_label_smoothing_bounds_the_confidence() -> None:
    # The minimum of the smoothed loss has 1 − s + s/C at the label.
    one_each = (torch.eye(3), torch.arange(3))
    recipe = Recipe(epochs=400, batch_size=3, lr=0.5, weight_decay=0.0, label_smoothing=0.3)
    found = train(nn.Sequential(nn.Linear(3, 3)), one_each, recipe, engine=ENGINE)
    expected = 0.1 + 0.7 * torch.eye(3)
    torch.testing.assert_close(found(torch.eye(3)).softmax(1), expected, rtol=0, atol=1e-3)
