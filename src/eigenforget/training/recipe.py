"""Training from scratch: the recipe that makes originals and retrained oracles."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Below1, Count, NonNegative, Positive, TwoOrMore
from eigenforget.core.registry import Registry
from eigenforget.core.spec import configured
from eigenforget.data.augment import AUGMENTS
from eigenforget.data.sources import Source, as_source
from eigenforget.models.checkpoint import named_tensors
from eigenforget.models.heads import check_label_range
from eigenforget.models.precision import narrowed, types_of, widened
from eigenforget.models.prepare import check_inputs, door, looks, prepare
from eigenforget.training.arguments import check_arguments
from eigenforget.training.engine import Engine, engine_beside
from eigenforget.training.log import Log
from eigenforget.training.losses import mean_cross_entropy
from eigenforget.training.own_fit import as_recipe, fit_own, recipe_of_function
from eigenforget.training.phases import LossInputs, Momentum, Optimizer, Phase, Schedule


@configured
class Recipe:
    """How a model is trained from scratch.

    The same recipe trains the original and, without the forget set, the oracle.
    """

    name: ClassVar[str] = "recipe"
    epochs: Annotated[Count, "passes over the training data"] = 30
    batch_size: Annotated[TwoOrMore, "samples per step"] = 128
    optimizer: Annotated[Literal["sgd", "adamw"], "SGD with Nesterov momentum, or AdamW"] = "sgd"
    lr: Annotated[Positive, "peak learning rate"] = 0.1
    momentum: Momentum = 0.9
    weight_decay: Annotated[NonNegative, "L2 penalty (SGD) or decoupled decay (AdamW)"] = 5e-4
    schedule: Schedule = "onecycle"
    augment: Annotated[
        Literal["none", "crop", "flip_crop"],
        "random shifts, or shifts and horizontal flips, of training images",
    ] = "none"
    label_smoothing: Annotated[
        Below1, "share of the target that all classes have in equal parts"
    ] = 0.0
    averaged: Annotated[
        Below1, "share of the steps, the last ones, whose weights are averaged; 0 takes the last"
    ] = 0.0


RECIPES: Registry[type] = Registry(
    "recipe", "eigenforget.recipes", [Recipe], requires=("name",), wrap=recipe_of_function
)

TRAINING_REVISION = 1
"""Raised whenever the same recipe, data, model and seed would no longer give the same weights.
Models stored under an earlier revision are not used any more.
"""


def supervised(inputs: LossInputs, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the batch's own labels, the loss of plain training."""
    return mean_cross_entropy(inputs.outputs.logits, inputs.batch.labels, smoothing)


@door
def train(
    model: nn.Module,
    data: Any,
    recipe: Recipe | str | Callable[..., Any] = "recipe()",
    *,
    seed: int = 0,
    layer: str | None = None,
    engine: Engine | None = None,
    log: Log | None = None,
) -> nn.Module:
    """Train a copy of a model, from the weights that it has; the model itself stays as it is.

    Args:
        model: Any classifier that gives logits [B, C].
        data: Training data: (inputs, labels) tensors or arrays, a map-style Dataset, a DataLoader,
            or Samples of one of these.
        recipe: A recipe, its spelling such as "recipe(epochs=5)", or your own training function,
            fit(model, data, seed); see `train_oracles`.
        seed: The order of batches, augmentation and dropout follow from it.
        layer: The feature layer. Only a model without a linear head needs one; no weight depends
            on it.
        engine: Where and in which precision to compute; by default on the model's GPU, or else on
            the best device there is.
        log: Called with a row after each epoch.

    Returns:
        The trained copy, in eval mode.

    Raises:
        EigenforgetError: A label lies outside the model's outputs, the data is empty, or the
            weights are unsuitable.
        Diverged: The loss or a weight became NaN or infinite.
    """
    check_arguments(model=model, seed=seed, layer=layer, engine=engine, log=log)
    chosen = _recipe(recipe)
    source = as_source(data, "data")
    if chosen.augment != "none":
        augment = AUGMENTS.parse(chosen.augment)
        source = replace(source, augment=augment)  # type: ignore[type-var]
    prepared = prepare(model, looks(training=source), trains=True)
    check_label_range(source.labels(), prepared.num_classes)
    check_inputs(prepared.model, training=source)
    trained = fit_recipe(
        copy.deepcopy(prepared.model),
        source,
        chosen,
        engine=engine or engine_beside(model),
        seed=seed,
        layer=layer,
        log=log,
    )
    return prepared.restored(trained)


def _recipe(given: Any) -> Any:
    if isinstance(given, str):
        return RECIPES.parse(given)
    if isinstance(given, Recipe) or (hasattr(given, "fit") and not isinstance(given, type)):
        return given
    if callable(given) and not isinstance(given, (type, nn.Module)):
        return as_recipe(given)
    raise EigenforgetError(
        "recipe must be a Recipe, its spelling, such as 'recipe(epochs=5)', or a function "
        f"fit(model, data, seed), got {type(given).__name__}"
    )


class _Average:
    """The mean of a model's weights and buffers over its steps from `first` on."""

    def __init__(self, model: nn.Module, first: int) -> None:
        self.mean = AveragedModel(model, avg_fn=_running_mean, use_buffers=True)
        self._left = first

    def step(self, model: nn.Module) -> None:
        """Take note of a step."""
        if self._left > 0:
            self._left -= 1
        else:
            self.mean.update_parameters(model)


def _running_mean(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
    """The mean with one more value; what is equal stays, such as the infinities of a mask."""
    return torch.where(mean == value, mean, mean + (value - mean) / (count + 1))


def fit_recipe(
    model: nn.Module,
    source: Source,
    recipe: Recipe,
    *,
    engine: Engine,
    seed: int,
    layer: str | None = None,
    log: Log | None = None,
) -> nn.Module:
    """Train `model` in place with cross-entropy on the source, and return it in eval mode.

    A model with tensors in half precision trains as a float32 copy (see `models.precision`), whose
    weights then go back into it.

    Args:
        model: The model to train.
        source: Its training data, with the augmentation that it shall have.
        recipe: Epochs, batch size and optimizer; `augment` is not read. One with fit(model, data,
            seed), as of a user's own function, trains by that; see `own_fit`.
        engine: Where to compute.
        seed: Order of batches, augmentation and dropout follow from it.
        layer: The feature layer. Only a model without a linear head needs one.
        log: Called with a row after each epoch.
    """
    if not isinstance(recipe, Recipe):
        fit_own(recipe, model, source, engine=engine, seed=seed)
        if log is not None:
            log({"epoch": 0, "phase": recipe.name})
        return model.eval()
    wide = widened(model)
    optimizer = Optimizer(
        kind=recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        schedule=recipe.schedule,
    )
    phase = Phase(
        "train",
        (source,),
        partial(supervised, smoothing=recipe.label_smoothing),
        optimizer,
        recipe.batch_size,
    )
    average = None
    if recipe.averaged > 0:
        steps = engine.steps(phase, recipe.epochs)
        average = _Average(wide, math.floor((1 - recipe.averaged) * steps))
        phase = replace(phase, after_step=average.step)
    engine.fit(wide, [phase], epochs=recipe.epochs, seed=seed, layer=layer, log=log)
    if average is not None:
        wide.load_state_dict(average.mean.module.state_dict())
    if wide is not model:
        given = dict(named_tensors(model))
        trained = dict(named_tensors(narrowed(wide, types_of(given))))
        with torch.no_grad():
            for name, tensor in given.items():
                tensor.copy_(trained[name])
    return model.eval()
