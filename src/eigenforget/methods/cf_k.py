"""CF-k: fine-tune the last k layers on the retain set and keep the others as they are."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, RetainEpochs, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.models.initialisation import NORMS, reinitialise
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)  # noqa: SLF001 (no public base class)
"""What counts as a layer."""


@configured
class CFk(SGDFields, Method):
    """Fine-tune the last k layers on the retain set ("catastrophically forgetting k").

    Layers are convolutions and linear layers, counted from the end in order of registration;
    shortcut convolutions count. Everything registered after the k-th last layer trains with it,
    including normalisation, except what is frozen (requires_grad is False). A weight that one of
    them shares with an earlier layer trains too. Every other tensor stays bit for bit as it was.
    Earlier batch norms normalise with the original's statistics and keep them.
    """

    name: ClassVar = "cf_k"
    source: ClassVar = (
        "Goel et al.: Towards Adversarial Evaluations for Inexact Machine Unlearning, arXiv "
        "2201.06640; deviation: frozen batch norms keep their statistics (the published code "
        "updates them)"
    )
    needs: ClassVar = ("retain", "labels")
    passes: ClassVar = "trained: epochs × retain, last k layers"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-scrub": PublishedRun(
            dict(
                epochs=10,
                lr=0.01,
                momentum=0.0,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=64,
                k=6,
            ),
            RESNET18,
            CIFAR10,
            "100 samples of one class",
            "meghdadk/SCRUB, MIA_experiments.ipynb, 98ffb11",
            "layer4 trains there, the head stays; k=6 trains both",
        ),
    }

    k: Annotated[Count, "number of convolutions and linear layers to fine-tune, from the end"] = 3
    epochs: RetainEpochs = 5
    lr: LearningRate = 0.05

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student()
        trains = owned(student, last_layers(student, self.k, self.name))
        phase = last_phase(self, retain, trains, batch_size=self.batch_size)
        return task.fit(student, [phase], epochs=self.epochs)


def last_phase(method: Method, retain: Source, trains: Container[str], *, batch_size: int) -> Phase:
    """Epochs over the retain set in which only the parameters of these names train."""
    return Phase(
        "recover",
        (retain,),
        supervised,
        optimizer_of(method),
        batch_size=batch_size,
        trains=trains.__contains__,
        norm="trained",
    )


def last_layers(model: nn.Module, k: int, method: str) -> dict[str, nn.Module]:
    """The modules by name from the k-th last convolution or linear layer on, as registered.

    Raises:
        Refused: The model has fewer than k such layers.
    """
    modules = list(model.named_modules())
    starts = [i for i, (_, module) in enumerate(modules) if isinstance(module, LAYERS)]
    if k > len(starts):
        raise Refused(
            f"{method}(k={k}) needs a model with {k} convolutions and linear layers; this one has "
            f"{len(starts)}"
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
    """Draw anew, in place, what these layers of the model hold and is not frozen.

    Batch norms without parameters keep their statistics. A phase that moves the statistics of
    trained layers alone would leave drawn ones at mean 0 and variance 1.

    Returns:
        The names of the parameters that were drawn.

    Raises:
        Refused: As in `reinitialise`.
    """
    drawn = {}
    frozen = []
    for name, layer in layers.items():
        own = list(layer.parameters(recurse=False))
        frozen += [(p, p.detach().clone()) for p in own if not p.requires_grad]
        if any(p.requires_grad for p in own) or not (own or isinstance(layer, NORMS)):
            drawn[name] = layer
    reinitialise(drawn, seed=seed, method=method, without_reset=without_reset)
    with torch.no_grad():
        for parameter, original in frozen:
            parameter.copy_(original)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return owned(model, drawn) & trainable


def owned(model: nn.Module, layers: Mapping[str, nn.Module]) -> set[str]:
    """Names in the model of the parameters that these modules own themselves.

    A shared parameter has the name of its first owner.
    """
    own = {id(p) for module in layers.values() for p in module.parameters(recurse=False)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}
