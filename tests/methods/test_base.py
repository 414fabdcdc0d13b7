"""What methods share: the task's samples and copies, log rows, optimizers, what a class declares."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.methods import CMF, METHODS, MUDA, SCRUB, SSD, Masked, RandomLabel
from eigenforget.methods.base import (
    DECLARED,
    Method,
    Task,
    adam,
    of_callable,
    optimizer_of,
    real_valued,
)
from eigenforget.training.phases import Optimizer

EVERY = pytest.mark.parametrize("kind", METHODS.own, ids=lambda kind: kind.name)


@EVERY
def test_every_class_is_a_method_whose_search_space_names_its_fields(kind: Any) -> None:
    method = kind()
    assert isinstance(method, Method) and all(hasattr(method, name) for name in DECLARED)
    for name, (low, high) in kind.search_space.items():
        owner = method
        for part in name.split(".")[:-1]:
            owner = getattr(owner, part)
        field = {f.name: f for f in dataclasses.fields(owner)}[name.split(".")[-1]]
        assert 0 < low < high
        replace(owner, **{field.name: low}), replace(owner, **{field.name: high})
        assert low <= getattr(owner, field.name) <= high


@EVERY
def test_every_recipe_is_made_of_fields_that_the_class_accepts(kind: Any) -> None:
    for name, fields in kind.recipes.items():
        assert kind(recipe=name) == kind(**fields)


def test_log_rows_are_those_of_the_inner_method() -> None:
    assert RandomLabel(epochs=3).log_rows == 6 == Masked(inner=RandomLabel(epochs=3)).log_rows
    assert CMF(inner=MUDA(alternations=4, stand_in_samples=0)).log_rows == 4
    assert SSD().log_rows == 0 and SCRUB(epochs=5, msteps=3).log_rows == 8


def test_an_optimizer_has_the_methods_own_fields_and_what_is_said_beside_them() -> None:
    method = MUDA(momentum=0.5, clip=2.0)
    assert optimizer_of(method, lr=0.3) == Optimizer(
        lr=0.3, momentum=0.5, weight_decay=5e-4, schedule="cosine", clip=2.0
    )
    assert adam(0.1) == Optimizer(kind="adamw", lr=0.1, weight_decay=0.0)


def test_samples_depend_on_the_seed_and_the_key_and_are_no_larger_than_asked(task: Task) -> None:
    first, again, other = (task.sample(task.forget, 5, key).labels() for key in ("a", "a", "b"))
    assert len(first) == 5 and np.array_equal(first, again)
    whole = task.sample(task.forget, 10**6, "a")
    assert len(whole) == len(task.forget)
    inputs = [next(task.sample(task.forget, 5, key).batches(5)).inputs for key in ("a", "a", "b")]
    assert torch.equal(inputs[0], inputs[1]) and not torch.equal(inputs[0], inputs[2])
    assert task.at_most(task.forget, None, "a") is task.forget
    assert task.at_most(task.forget, len(task.forget), "a") is task.forget
    assert len(task.at_most(task.forget, 3, "a")) == 3 and len(other) == 5


def test_what_a_task_lacks_is_a_refusal_that_names_the_method(task: Task) -> None:
    with pytest.raises(Refused, match="mine"):
        replace(task, retain=None).needs_retain("mine")
    with pytest.raises(Refused, match="mine"):
        replace(task, forgotten_classes=()).needs_gone_classes("mine")
    assert task.needs_gone_classes("mine").tolist() == list(task.forgotten_classes)


def test_keyword_only_parameters_of_a_function_are_fields() -> None:
    def scaled(task: Task, *, by: float = 2.0) -> Any:
        return by

    kind = of_callable(scaled)
    assert kind.name == "scaled" and kind().by == 2.0 and kind(by=3.0).by == 3.0
    with pytest.raises(EigenforgetError, match="by"):
        kind(by="x")
    with pytest.raises(EigenforgetError, match="task"):
        of_callable(lambda one, two: one)


def test_retained_classes_are_those_that_occur_in_the_retain_set(task: Task) -> None:
    assert task.retained_classes == (0, 1, 2, 4, 5, 6, 7, 8, 9)
    few = task.needs_retain("").subset(np.flatnonzero(task.needs_retain("").labels() % 2 == 0))
    assert replace(task, retain=few, num_classes=1000).retained_classes == (0, 2, 4, 6, 8)
    without = replace(task, retain=None, forgotten_classes=(1, 3))
    assert without.retained_classes == (0, 2, 4, 5, 6, 7, 8, 9)


def test_real_valued_gives_floating_point_tensors_and_refuses_all_else() -> None:
    inputs = torch.zeros(2, 3)
    assert real_valued(inputs, "jit", why="to add noise") is inputs
    for other in (torch.zeros(2, 3, dtype=torch.long), {"ids": inputs}):
        with pytest.raises(Refused, match="jit needs inputs"):
            real_valued(other, "jit", why="to add noise")
