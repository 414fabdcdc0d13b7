"""Published runs: settings with the place where they stand, and a doubt where they do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.spec import recipe_of
from eigenforget.methods.base import Task


class PublishedModel(NamedTuple):
    """An architecture, known by the number of its convolutions."""

    name: str
    convolutions: int


class PublishedData(NamedTuple):
    """Data with their number of classes and the shape of an image as the model sees it."""

    name: str
    classes: int
    shape: tuple[int, ...]


RESNET18 = PublishedModel("ResNet-18", 20)
RESNET9 = PublishedModel("ResNet-9", 8)
ALL_CNN = PublishedModel("All-CNN", 8)
VIT = PublishedModel("ViT", 1)
CIFAR10 = PublishedData("CIFAR-10", 10, (3, 32, 32))
CIFAR20 = PublishedData("CIFAR-20", 20, (3, 32, 32))
CIFAR100 = PublishedData("CIFAR-100", 100, (3, 32, 32))
TINY_IMAGENET = PublishedData("Tiny ImageNet", 200, (3, 64, 64))


@dataclass(frozen=True, eq=False)
class PublishedRun(Mapping[str, Any]):
    """One run of a paper or script, as a mapping of its settings.

    Attributes:
        settings: Fields of the method.
        model: What was unlearned from.
        data: What it was trained on.
        request: What was forgotten.
        source: The file or table where the settings stand, with the commit.
        remark: What differs here, in words.
    """

    settings: Mapping[str, Any]
    model: PublishedModel
    data: PublishedData
    request: str
    source: str
    remark: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    def __str__(self) -> str:
        about = f"{self.model.name} on {self.data.name}, {self.request} ({self.source})"
        return f"{about}; {self.remark}" if self.remark else about


def doubt_other_settings(method: Any, task: Task) -> None:
    """Warn where a method, or one inside it, has a recipe for another model or other data."""
    for recipe, run, name in _chosen(method):
        differs = _differences(run, task)
        if differs:
            doubt = (
                "learning rates need not fit; set lr= beside the recipe,"
                if "lr" in run
                else "settings need not fit;"
            )
            notices.warn(
                f"recipe {recipe!r} of {name} is for {run.model.name} on {run.data.name}, and "
                f"{', '.join(differs)}: its {doubt} tune it, or leave the recipe out"
            )


def _chosen(method: Any) -> Iterator[tuple[str, PublishedRun, str]]:
    recipe = recipe_of(method)
    run = None if recipe is None else getattr(method, "recipes", {}).get(recipe)
    if recipe is not None and isinstance(run, PublishedRun):
        yield recipe, run, method.name
    if dataclasses.is_dataclass(method):
        for field in dataclasses.fields(method):
            inner = getattr(method, field.name)
            if dataclasses.is_dataclass(inner):
                yield from _chosen(inner)


def _differences(run: PublishedRun, task: Task) -> list[str]:
    convolutions = sum(isinstance(m, nn.modules.conv._ConvNd) for m in task.model.modules())  # noqa: SLF001 (no public base class)
    found = []
    if convolutions != run.model.convolutions:
        found.append(f"this model has {convolutions} convolutions, not {run.model.convolutions}")
    if task.num_classes != run.data.classes:
        found.append(f"it has {task.num_classes} classes, not {run.data.classes}")
    inputs = next(iter(task.forget.batches(1))).inputs
    shape = tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else type(inputs).__name__
    if shape != run.data.shape:
        found.append(f"inputs are {shape}, not {run.data.shape}")
    return found
