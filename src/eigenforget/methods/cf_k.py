"""CF-k: fine-tune the last k layers on the retained data and keep the others as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule, WeightDecay
from eigenforget.training.recipe import supervised

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@configured
class CFk:
    """Fine-tune the last k layers on the retained data ("catastrophically forgetting k"); every
    other tensor stays bit for bit.

    Layers are convolutions and linear layers, counted from the end in order of registration
    (shortcut convolutions count); everything registered after the k-th last one trains with it,
    normalisation included, but for what is frozen (requires_grad is False). A weight that one of
    them shares with an earlier layer trains too. Batch norms before it normalise with the
    original's statistics and keep them.
    """

    name: ClassVar[str] = "cf_k"
    source: ClassVar[str] = (
        "Goel et al.: Towards Adversarial Evaluations for Inexact Machine Unlearning, arXiv 2201.06640; deviation: "
        "frozen batch norms keep their statistics (the published code updates them)"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × retain, last k layers"

    k: Annotated[
        int,
        Field(
            ge=1, description="number of convolutions and linear layers to fine-tune, from the end"
        ),
    ] = 3
    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 5
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.05
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student()
        layers = last_layers(student, self.k, self.name)
        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        phase = Phase(
            "recover",
            (retain,),
            supervised,
            optimizer,
            batch_size=self.batch_size,
            trains=owned(student, layers).__contains__,
            norm="trained",
        )
        return task.fit(student, [phase], epochs=self.epochs)


def last_layers(model: nn.Module, k: int, method: str) -> dict[str, nn.Module]:
    """name -> module from the k-th last convolution or linear layer on, in order of registration.
    Refused: fewer than k layers.
    """
    modules = list(model.named_modules())
    starts = [i for i, (_, module) in enumerate(modules) if isinstance(module, LAYERS)]
    if k > len(starts):
        raise Refused(
            f"{method}(k={k}) needs a model with {k} convolutions and linear layers; this one has {len(starts)}"
        )
    return dict(modules[starts[-k] :])


def draw_anew(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    *,
    seed: int,
    method: str,
    without_reset: Literal["refused", "own scale"] = "refused",
) -> set[str]:
    """Draw anew, in place, what these layers of the model hold and is not frozen; returns the names
    of the parameters that were.

    Batch norms without parameters keep their statistics: a phase that moves the statistics of
    trained layers alone would leave drawn ones at mean 0 and variance 1. Refusals are those of
    `reinitialise`.
    """
    own = {name: list(layer.parameters(recurse=False)) for name, layer in layers.items()}
    frozen = [
        (p, p.detach().clone())
        for parameters in own.values()
        for p in parameters
        if not p.requires_grad
    ]
    bare = {
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.modules.batchnorm._NormBase) and not own[name]
    }
    drawn = {
        name: layer
        for name, layer in layers.items()
        if name not in bare and not _is_frozen(own[name])
    }
    reinitialise(drawn, seed=seed, method=method, without_reset=without_reset)
    with torch.no_grad():
        for parameter, original in frozen:
            parameter.copy_(original)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return owned(model, drawn) & trainable


def _is_frozen(own: Sequence[nn.Parameter]) -> bool:
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def owned(model: nn.Module, layers: Mapping[str, nn.Module]) -> set[str]:
    """Names, in the model, of the parameters that these modules own themselves; a shared one has
    the name of its first owner.
    """
    own = {
        id(parameter)
        for module in layers.values()
        for parameter in module.parameters(recurse=False)
    }
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}
