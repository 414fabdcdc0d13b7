"""Training by a user's own function, in the place of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.registry import from_function
from eigenforget.data.sources import DatasetSource, Source, TensorSource
from eigenforget.data.sources.reading import undisturbed
from eigenforget.models.features import before_passes
from eigenforget.models.initialisation import infinite_constants, unsound
from eigenforget.training.engine import Engine


def recipe_of_function(function: Callable[..., Any]) -> type:
    """A recipe whose fit() calls function(model, data, seed, *, fields).

    `data` is a Dataset of (input, label) with the samples to train on, in random order or not as
    the function likes. It trains the model in place, or returns one with the same weights' names.
    """
    # One row of the log stands for the whole; augmentation is the function's own.
    given = ("model", "data", "seed")
    return from_function(function, call="fit", given=given, epochs=1, augment="none")


def fit_own(recipe: Any, model: nn.Module, source: Source, *, engine: Engine, seed: int) -> None:
    """Trains the model in place by the function of a recipe, with global random states seeded.

    Raises:
        EigenforgetError: The samples are in memory by name and fit no Dataset, or the function
            returns no model of the same weights.
        Diverged: The result has NaN or infinite weights.
    """
    model, constants = engine.placed(model), infinite_constants(model)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with undisturbed(seed), before_passes(model, partial(_count, engine)):
        made = recipe.fit(model, _dataset(source), seed)
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


def _dataset(source: Source) -> Dataset[Any]:
    if isinstance(source, DatasetSource):
        return source.dataset
    if isinstance(source, TensorSource) and isinstance(source.inputs, torch.Tensor):
        return TensorDataset(source.inputs, source.targets)
    raise EigenforgetError(
        "a training function of one's own takes samples of one input each, or a Dataset"
    )


def _count(engine: Engine, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Counts the samples of a pass that trains: nobody else sees the function's batches."""
    first = cast("Any", inputs[0]) if inputs else None
    if module.training and torch.is_grad_enabled() and isinstance(first, torch.Tensor):
        engine.meter.count(trained=len(first))
