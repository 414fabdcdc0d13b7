"""What samples consist of: one tensor, or several by name, beside integer labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch

Augment = Callable[[Tensor, torch.Generator], Tensor]
Inputs = Tensor | dict[str, Tensor]
"""One tensor [N, ...], or several by the name of the model's argument, such as input_ids and
attention_mask.
"""


def pair_of(item: Any) -> tuple[Any, Any]:
    """The inputs and the labels of a sample or batch.

    Raises:
        EigenforgetError: It is neither a pair nor a dict with "labels" or "label".
    """
    if isinstance(item, Mapping):
        for key in ("labels", "label"):
            if key in item:
                return {k: v for k, v in item.items() if k != key}, item[key]
    if isinstance(item, (tuple, list)) and len(item) >= 2:
        return item[0], item[1]
    raise EigenforgetError(
        f"a sample must be (input, label) or a dict with 'labels', got {type(item).__name__}"
    )


def check_labels(targets: Tensor) -> None:
    """Checks that labels are a 1-D integer tensor.

    Raises:
        EigenforgetError: They are not.
    """
    if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
        raise EigenforgetError(
            f"labels must be a 1-D integer tensor, got {targets.dtype} {list(targets.shape)}"
        )


def counts(inputs: Inputs) -> dict[str, int]:
    """How many samples each tensor has, by its name."""
    if isinstance(inputs, Tensor):
        return {"inputs": len(inputs)}
    if not inputs:
        raise EigenforgetError("inputs are a dict without any tensor")
    return {name: len(value) for name, value in inputs.items()}


def taken(inputs: Inputs, rows: Tensor) -> Inputs:
    """The inputs at these rows."""
    return (
        inputs[rows]
        if isinstance(inputs, Tensor)
        else {name: value[rows] for name, value in inputs.items()}
    )


def augmented(inputs: Any, augment: Augment | None, generator: torch.Generator | None) -> Any:
    """The inputs, changed at random where there are an augmentation and a generator."""
    if augment is None or generator is None:
        return inputs
    check_augmentable(inputs)
    return augment(inputs, generator)


def check_augmentable(inputs: Any) -> None:
    """Checks that inputs are one tensor.

    Raises:
        EigenforgetError: They are something else, which augmentation does not know.
    """
    if not isinstance(inputs, Tensor):
        found = (
            f"a dict of {', '.join(inputs)}"
            if isinstance(inputs, Mapping)
            else type(inputs).__name__
        )
        raise EigenforgetError(
            f"augmentation changes one tensor of images, these inputs are {found}; choose none"
        )


def concatenated(batches: list[Batch]) -> Batch:
    """Several batches as one, on the device of the first.

    Raises:
        EigenforgetError: Their inputs differ in names or shapes.
    """
    device = batches[0].labels.device
    forms = [_forms(batch.inputs) for batch in batches]
    if any(form != forms[0] for form in forms):
        other = next(form for form in forms if form != forms[0])
        raise EigenforgetError(f"joined sources give different inputs: {forms[0]} and {other}")
    first = batches[0].inputs
    if isinstance(first, Mapping):
        inputs: Any = {key: torch.cat([b.inputs[key].to(device) for b in batches]) for key in first}
    else:
        inputs = torch.cat([b.inputs.to(device) for b in batches])
    return Batch(
        inputs,
        torch.cat([b.labels.to(device) for b in batches]),
        torch.cat([b.positions for b in batches]).to(device),
    )


def _forms(inputs: Any) -> dict[str, list[int]]:
    """Shape of one sample in each tensor, by its name."""
    named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
    return {name: list(value.shape[1:]) for name, value in named.items()}
