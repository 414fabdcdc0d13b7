"""What methods that work on the classifier head may ask of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.text import first_line, listed
from eigenforget.data.sources import Source
from eigenforget.models.features import find_head, note_head, trace_heads
from eigenforget.models.precision import is_widened


def head_if_any(model: nn.Module) -> tuple[str, nn.Linear] | None:
    """The classifier head as in `find_head`; None where the model has none, or several."""
    try:
        return find_head(model)
    except EigenforgetError:
        return None


def linear_head(model: nn.Module, method: str, *, changes: Sequence[str]) -> tuple[str, nn.Linear]:
    """The name and the module of a linear head of which a method changes some parameters.

    Args:
        model: The model that will be changed.
        method: Name of the method, for messages.
        changes: Names of the parameters.

    Raises:
        Refused: There is no linear head, it is frozen, or it shares a parameter with another layer,
            which would change too.
    """
    try:
        name, head = find_head(model)
    except EigenforgetError as error:
        raise Refused(f"{method} needs a linear classifier head: {error}") from None
    own = {key: p for key, p in head.named_parameters(recurse=False) if key in changes}
    frozen = [key for key, p in own.items() if not p.requires_grad]
    if frozen:
        raise Refused(
            f"{method} changes the classifier head {name}, whose {listed(frozen)} is frozen "
            "(requires_grad is False)"
        )
    ids = {id(p) for p in own.values()}
    sharing = [
        other
        for other, m in model.named_modules()
        if m is not head and any(id(p) in ids for p in m.parameters(recurse=False))
    ]
    if sharing:
        raise Refused(
            f"{method} changes the classifier head {name} alone, which shares its weight with "
            f"{listed(sharing)}"
        )
    return name, head


def plain_head(model: nn.Module, method: str) -> tuple[str, nn.Linear]:
    """The name and the module of a head that can be exchanged.

    Raises:
        Refused: As in `linear_head`, or the head is no plain nn.Linear inside the model.
    """
    name, head = linear_head(model, method, changes=("weight", "bias"))
    if type(head) is not nn.Linear or not name:
        where = name or "the model itself"
        raise Refused(
            f"{method} needs a plain nn.Linear head inside the model; {where} is "
            f"{type(head).__name__}"
        )
    return name, head


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in place of the named one, under each of its names.

    Order and names of the other modules stay as they are.
    """
    old = model.get_submodule(name)
    for path in [
        path for path, found in model.named_modules(remove_duplicate=False) if found is old
    ]:
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)


MISFITS = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError)
"""What modules raise for inputs that they are not made for."""


class SettledModel(NamedTuple):
    """A model whose head `find_head` finds, and its number of logits."""

    model: nn.Module
    num_classes: int


def settle(model: nn.Module, source: Source) -> SettledModel:
    """Find the head of a model by a forward pass of two samples; the model itself stays as it is.

    Where the head is not the last nn.Linear, the answer is a copy of the model that bears its name
    in the attribute `eigenforget_head` (see `features.note_head`).

    Raises:
        EigenforgetError: The model does not take the inputs, as where it casts to half precision
            inside of its forward pass (see `precision.widened`).
    """
    try:
        traced = trace_heads(model, _sample(model, source))
    except MISFITS as error:
        if isinstance(error, EigenforgetError):
            raise
        how = "on these data"
        if is_widened(model):
            how = "with its float16 or bfloat16 weights in float32"
        raise EigenforgetError(f"the model does not run {how}: {first_line(error)}") from error
    note = traced.note(model)
    if note is not None:
        model = copy.deepcopy(model)
        note_head(model, note)
    return SettledModel(model, traced.num_classes)


def check_label_range(labels: np.ndarray, head_size: int) -> None:
    """Check that all labels [N] are outputs of the head, 0 to head_size − 1.

    Raises:
        EigenforgetError: Some are not; the message lists them.
    """
    outside = np.unique(labels[(labels < 0) | (labels >= head_size)])
    if len(outside):
        subject = f"labels {listed(outside)} are" if len(outside) > 1 else f"label {outside[0]} is"
        raise EigenforgetError(f"{subject} outside the model's head of {head_size} outputs")


def _sample(model: nn.Module, source: Source) -> Any:
    """The inputs of two samples on the model's device and in its type."""
    inputs = next(source.subset(np.arange(min(2, len(source)))).batches(2)).inputs
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return tree_map(lambda t: t.to(like) if t.is_floating_point() else t.to(like.device), inputs)
