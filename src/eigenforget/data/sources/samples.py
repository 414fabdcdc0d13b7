"""What only the user knows about the data, in one value that is accepted wherever data is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Subset

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import displayed
from eigenforget.data.sources.inputs import Key, Keys


@dataclass(frozen=True, eq=False)
class Samples:
    """Data together with what settles doubts about it: `Samples(dataset, inputs=0, label=2)`.

    It is accepted wherever (inputs, labels), a Dataset or a DataLoader is.

    Args:
        data: (inputs, labels), a map-style Dataset or a DataLoader.
        inputs: Which item of a sample the model gets, by position or name. Several items are passed
            by the name of the model's argument: ("input_ids", "attention_mask"), or {"input_ids":
            0, "attention_mask": 1} for samples without names. Items that are not named need not be
            tensors.
        label: Which item is the label, by position or name.
        eval_transform: Replaces the dataset's own `transform` in every pass that measures. Training
            passes keep the dataset's own.
        clean: Instead of `eval_transform`: data with the same samples in the same order, without
            random augmentation.
        allow_random: Whether measuring may read a sample differently each time. By default that is
            an error in `evaluate` and `analyze`.
    """

    data: Any
    inputs: Keys | None = None
    label: Key | None = None
    eval_transform: Callable[[Any], Any] | None = None
    clean: Any = None
    allow_random: bool = False

    def __post_init__(self) -> None:
        if self.eval_transform is not None and self.clean is not None:
            raise EigenforgetError("Samples takes eval_transform= or clean=, and got both")
        if not (self.inputs is None or _are_keys(self.inputs)):
            raise EigenforgetError(
                "Samples: inputs= is a position, a name, several names, or a position or name for "
                f"each argument of the model, got {displayed(self.inputs)}"
            )
        if not isinstance(self.label, (int, str, type(None))):
            raise EigenforgetError(
                f"Samples: label= is a position or a name, got {displayed(self.label)}"
            )


def _are_keys(inputs: Any) -> bool:
    """Whether `Samples` takes this as `inputs`; positions without names are none of an argument."""
    if isinstance(inputs, (int, str)):
        return True
    if isinstance(inputs, Mapping):
        return all(isinstance(key, (int, str)) for key in inputs.values())
    return isinstance(inputs, Iterable) and all(isinstance(name, str) for name in inputs)


def with_transform(data: Any, transform: Callable[[Any], Any], what: str) -> Any:
    """The dataset with another `transform`; the given one stays as it is.

    It is looked for inside of Subsets and loaders.

    Args:
        data: A Dataset or a DataLoader.
        transform: The transform.
        what: The name of the data, for messages.

    Raises:
        EigenforgetError: The dataset has no `transform`.
    """
    if isinstance(data, Samples):
        data = data.data
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, Subset):
        return Subset(with_transform(data.dataset, transform, what), data.indices)
    if callable(getattr(data, "with_transform", None)):  # a dataset of Hugging Face
        return data.with_transform(transform)
    if not hasattr(data, "transform"):
        raise EigenforgetError(
            f"{what}: {type(data).__name__} has no attribute transform that eval_transform could "
            "replace; give clean=, a dataset of the same samples without augmentation"
        )
    other = copy.copy(data)
    other.transform = transform
    if hasattr(other, "transforms"):  # torchvision keeps both, and some of its sets read this one
        label = getattr(other, "target_transform", None) or (lambda target: target)
        other.transforms = lambda image, target: (transform(image), label(target))
    return other
