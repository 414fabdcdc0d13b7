"""Training from scratch: the recipe that makes originals and retrained oracles."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.registry import Registry
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.models.checkpoint import named_tensors
from eigenforget.models.precision import narrowed, types_of, widened
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Momentum, Optimizer, Part, Phase, Schedule


@configured
class Recipe:
    """How a model is trained from scratch. The same recipe trains the original and, without the
    forget data, the oracle.
    """

    name: ClassVar[str] = "recipe"
    epochs: Annotated[int, Field(ge=1, description="passes over the training data")] = 30
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128
    optimizer: Annotated[
        Literal["sgd", "adamw"], Field(description="SGD with Nesterov momentum, or AdamW")
    ] = "sgd"
    lr: Annotated[float, Field(gt=0, description="peak learning rate")] = 0.1
    momentum: Momentum = 0.9
    weight_decay: Annotated[
        float, Field(ge=0, description="L2 penalty (SGD) or decoupled decay (AdamW)")
    ] = 5e-4
    schedule: Schedule = "onecycle"
    augment: Annotated[
        Literal["none", "crop", "flip_crop"],
        Field(description="random shifts, or shifts and horizontal flips, of training images"),
    ] = "none"


RECIPES: Registry[type] = Registry("recipe", own=[Recipe])

REVISION = 1
"""Raised whenever the same recipe, data, model and seed would no longer give the same weights:
stored models are not used beyond it.
"""


def supervised(part: Part) -> Tensor:
    """Cross-entropy [B] of the batch's own labels: the loss of plain training and of every recover
    phase.
    """
    return cross_entropy(part.outputs.logits, part.batch.labels)


def train(
    model: nn.Module,
    source: Source,
    recipe: Recipe,
    *,
    engine: Engine,
    seed: int,
    layer: str | None = None,
    log: Log | None = None,
) -> nn.Module:
    """Train `model` in place with cross-entropy on the source and return it in eval mode.

    layer: whose output are the features; a model without a linear head needs one, although it
    changes no weight. A model with tensors in half precision trains as a float32 copy (see
    `models.precision`), whose weights then go back into it.
    """
    wide = widened(model)
    optimizer = Optimizer(
        kind=recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        schedule=recipe.schedule,
    )
    phase = Phase("train", (source,), supervised, optimizer, recipe.batch_size)
    engine.fit(wide, [phase], cycles=recipe.epochs, seed=seed, layer=layer, log=log)
    if wide is not model:
        given = dict(named_tensors(model))
        trained = dict(named_tensors(narrowed(wide, types_of(given))))
        with torch.no_grad():
            for name, tensor in given.items():
                tensor.copy_(trained[name])
    return model.eval()
