"""Which saved weights of a model are still the original's, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.checkpoint import named_tensors
from eigenforget.models.initialisation import is_mask, saved_buffers
from eigenforget.models.weights_by_content import (
    found_by_content,
    saved_numbers,
    trainable_weights,
)


class UnchangedWeights(NamedTuple):
    """What of a model's saved weights is still the original's, bit for bit.

    share: of the elements of trainable floating-point parameters, in [0, 1]; buffers: of the
    elements of saved floating-point buffers, None where there are none. names: tensors of which no
    element differs, parameters first, each in the order of the original.
    """

    share: float
    buffers: float | None
    names: tuple[str, ...]


def unchanged(before: nn.Module, *, after: nn.Module) -> UnchangedWeights:
    """Compare the weights of `after` with those of `before`, by name, a tied weight once.

    Copies that take no part in the forward pass, such as a moving average, count too. A tensor that
    is gone or has another shape or type has changed. Left out are parameters with
    requires_grad=False in `before` (and so a frozen copy of the model inside it), buffers of a
    module whose own parameters are all frozen, buffers that are not saved, and additive masks of 0
    and ±∞. A constant buffer (a table of positions) cannot be told from a kept copy, and methods
    that change a part on purpose leave all else as it was. Whoever judges has to know that.

    Raises:
        EigenforgetError: There is no trainable floating-point parameter.
    """
    parameters = trainable_weights(before)
    if not parameters:
        raise EigenforgetError(
            f"{type(before).__name__} has no trainable floating-point parameter to compare"
        )
    buffers, now = _moving_buffers(before), dict(named_tensors(after))
    same = {
        name: _same_elements(old, now.get(name)) for name, old in (parameters | buffers).items()
    }
    whole = tuple(
        name for name, old in (parameters | buffers).items() if same[name] == old.numel() > 0
    )
    return UnchangedWeights(_share(parameters, same) or 0.0, _share(buffers, same), whole)


def unchanged_weights(before: nn.Module, *, after: nn.Module) -> dict[str, Any]:
    """{"unchanged_weights": {…}} as in a record's job; {} where nothing of `before` is trainable.

    "share" and "buffers" see `unchanged`, "by_content" see `found_by_content`. "more" is how many
    more saved numbers `after` has, as a share of those of `before`.
    """
    if not trainable_weights(before):
        return {}
    found = unchanged(before, after=after)
    said = {"share": found.share, "buffers": found.buffers}
    content, sizes = (
        found_by_content(before, after=after),
        [saved_numbers(m) for m in (before, after)],
    )
    said |= {} if content is None else {"by_content": content}
    return {"unchanged_weights": {**said, "more": max(sizes[1] / sizes[0] - 1, 0.0)}}


def frozen_weights(before: nn.Module, *, after: nn.Module) -> dict[str, Any]:
    """{"frozen_weights": {"share", "said"}} as in a record's job; {} where nothing stayed frozen.

    share: of the elements of all parameters, those with requires_grad=False that are as before.
    said: in words what that means, of a model with adapters that these alone were changed.
    """
    now, total, stayed, adapters = dict(named_tensors(after)), 0, 0, False
    for name, parameter in before.named_parameters():
        total += parameter.numel()
        if not parameter.requires_grad:
            same = name in now and torch.equal(parameter.detach(), now[name].to(parameter.device))
            stayed += parameter.numel() if same else 0
        adapters |= parameter.requires_grad and "lora_" in name
    if not stayed:
        return {}
    said = "weights with requires_grad=False stayed as they were"
    if adapters:
        said = "unlearned in the adapters, which are not merged; the weights below them stayed"
    return {"frozen_weights": {"share": round(stayed / total, 6), "said": said}}


def _moving_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The saved floating-point buffers that training may move."""
    found: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if not own or any(p.requires_grad for p in own):
            found |= saved_buffers(prefix, module)
    return {
        name: value
        for name, value in found.items()
        if value.is_floating_point() and not is_mask(value)
    }


def _same_elements(old: Tensor, new: Tensor | None) -> int:
    """How many elements have the same bits; 0 for another shape or type."""
    if new is None or new.shape != old.shape or new.dtype != old.dtype:
        return 0
    # As bytes: by value −0.0 would be 0.0, and NaN would not be itself.
    mine, theirs = (
        t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).view(-1, t.itemsize)
        for t in (old, new)
    )
    return int((mine == theirs).all(1).sum())


def _share(tensors: Mapping[str, Tensor], same: Mapping[str, int]) -> float | None:
    total = sum(tensor.numel() for tensor in tensors.values())
    return sum(same[name] for name in tensors) / total if total else None
