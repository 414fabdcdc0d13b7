"""Training by a user's own function, in the place of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, TensorDataset

from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.registry import from_function
from eigenforget.core.text import first_line
from eigenforget.data.sources import DatasetSource, Source, TensorSource
from eigenforget.data.sources.reading import undisturbed
from eigenforget.models.features import before_passes
from eigenforget.models.initialisation import infinite_constants, unsound
from eigenforget.training.engine import Engine


def recipe_of_function(function: Callable[..., Any]) -> type:
    """A recipe whose fit() calls function(model, data, seed, *, fields).

    `data` is a Dataset of the samples to train on. It is your own Dataset as it is; for samples in
    memory it gives (input, label) pairs, and for inputs by name it gives dicts with the label as
    "labels". The function trains the model in place, or returns one with the same weights' names.
    """
    # One row of the log stands for the whole; augmentation is the function's own.
    given = ("model", "data", "seed")
    return from_function(function, call="fit", given=given, epochs=1, augment="none")


def as_recipe(fit: Callable[..., Any]) -> Any:
    """The recipe of a training function, with its fields at their defaults.

    Raises:
        EigenforgetError: It is not called as fit(model, data, seed), or has fields without a value.
    """
    function = fit if inspect.isfunction(fit) else _named(fit)
    try:
        return recipe_of_function(function)()
    except TypeError as error:
        raise EigenforgetError(
            f"{function.__name__}: {first_line(error)}; give it default values"
        ) from None


def _named(fit: Callable[..., Any]) -> Callable[[nn.Module, Any, int], Any]:
    """A function with a name that calls one without, such as a functools.partial."""

    def own_fit(model: nn.Module, data: Any, seed: int) -> Any:
        return fit(model, data, seed)

    return own_fit


def fit_own(recipe: Any, model: nn.Module, source: Source, *, engine: Engine, seed: int) -> None:
    """Trains the model in place by the function of a recipe, with global random states seeded.

    Raises:
        EigenforgetError: The samples fit no Dataset, or the function returns no model of the same
            weights.
        Diverged: The result has NaN or infinite weights.
    """
    model, constants = engine.placed(model), infinite_constants(model)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with undisturbed(seed, engine.fabric.device), before_passes(model, partial(_count, engine)):
        made = recipe.fit(model, as_dataset(source), seed)
    if made is not None and made is not model:
        if not isinstance(made, nn.Module):
            raise EigenforgetError(
                f"{recipe.name} must train the model in place or return one, got "
                f"{type(made).__name__}"
            )
        try:
            model.load_state_dict(made.state_dict())
        except RuntimeError:
            raise EigenforgetError(
                f"{recipe.name} returned a model with weights of other names or shapes than the "
                "one that it was given"
            ) from None
    for name in unsound(model, constants):
        raise Diverged(f"training by {recipe.name} diverged: {name} holds NaN or infinite values")
    model.zero_grad(set_to_none=True)
    for parameter, flag in flags:  # what the function froze was frozen for its own training
        parameter.requires_grad_(flag)


class NamedSamples(Dataset[dict[str, Tensor]]):
    """Samples of several inputs: each a dict of them by name, with its label as "labels".

    This is the form in which Hugging Face's Trainer takes them.

    Args:
        source: The samples, in memory.
    """

    def __init__(self, source: TensorSource) -> None:
        self._columns = {**cast("dict[str, Tensor]", source.inputs), "labels": source.targets}

    def __len__(self) -> int:
        return len(self._columns["labels"])

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: column[row] for name, column in self._columns.items()}


def as_dataset(source: Source) -> Dataset[Any]:
    """The samples of a source as your own training function takes them.

    Raises:
        EigenforgetError: They are joined of several.
    """
    if isinstance(source, DatasetSource):
        return source.dataset
    if isinstance(source, TensorSource):
        if isinstance(source.inputs, Tensor):
            return TensorDataset(source.inputs, source.targets)
        return NamedSamples(source)
    raise EigenforgetError(
        "your own training function takes the samples of one Dataset, and these are joined "
        "of several; give one"
    )


def _count(
    engine: Engine, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Counts the samples of a pass that trains: nobody else sees the function's batches."""
    if module.training and torch.is_grad_enabled():
        tensors = (leaf for leaf in tree_leaves((inputs, named)) if isinstance(leaf, Tensor))
        first = next((tensor for tensor in tensors if tensor.ndim), None)
        engine.meter.count(trained=0 if first is None else len(first))
