"""A method with smaller steps where its own would ruin the model."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from eigenforget.methods import Finetune
from eigenforget.methods.base import Task
from eigenforget.methods.gentle import gently
from eigenforget.training.recall import recall
from eigenforget.training.recipe import Recipe, fit_recipe
from tests.toys import ENGINE, net, sides


@pytest.fixture(scope="module")
def task() -> Task:
    forget, retain, _ = sides(by_class=False)
    model = fit_recipe(net(), retain, Recipe(epochs=20, batch_size=16), engine=ENGINE, seed=0)
    return Task(model.eval(), forget, retain, ENGINE, seed=0, num_classes=4)


def known(task: Task, model: nn.Module) -> float:
    assert task.retain is not None
    return recall(model, task.retain, ENGINE).accuracy


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_method_that_keeps_what_the_model_knows_runs_as_it_is(task: Task) -> None:
    mild = Finetune(epochs=1, lr=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(gently(task, mild), mild(task))


def test_a_method_that_ruins_the_model_runs_with_smaller_steps(task: Task) -> None:
    wild = Finetune(epochs=1, lr=30.0, momentum=0.0, weight_decay=0.0, batch_size=8)
    assert known(task, wild(task)) < known(task, task.model) - 0.15
    with pytest.warns(UserWarning, match=r"lr=30.0.* would have cost .*took its place"):
        found = gently(task, wild)
    assert known(task, found) >= known(task, task.model) - 0.03
    assert any(same(found, replace(wild, lr=30.0 / 5**n)(task)) for n in (1, 2, 3))
