"""What methods that work on the classifier head may ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.types import listed
from eigenforget.data.sources import Source
from eigenforget.models.features import _NOTE as NOTE
from eigenforget.models.features import find_head, settle_head
from eigenforget.models.precision import is_widened


def head_if_any(model: nn.Module) -> tuple[str, nn.Linear] | None:
    """Name and module of the linear classifier head, or None where the model has none, or several
    that may be it.
    """
    try:
        return find_head(model)
    except EigenforgetError:
        return None


def linear_head(model: nn.Module, method: str, *, changes: Sequence[str]) -> tuple[str, nn.Linear]:
    """Name and module of the linear head, whose parameters of these names the method is about to
    change.

    Refused: no linear head, one that is frozen there, one that shares a parameter with another
    layer, which would change too.
    """
    try:
        name, head = find_head(model)
    except EigenforgetError as error:
        raise Refused(f"{method} needs a linear classifier head: {error}") from None
    own = {key: p for key, p in head.named_parameters(recurse=False) if key in changes}
    frozen = [key for key, p in own.items() if not p.requires_grad]
    if frozen:
        raise Refused(
            f"{method} changes the classifier head {name}, whose {listed(frozen)} is frozen (requires_grad is False)"
        )
    ids = {id(p) for p in own.values()}
    sharing = [
        other
        for other, m in model.named_modules()
        if m is not head and any(id(p) in ids for p in m.parameters(recurse=False))
    ]
    if sharing:
        raise Refused(
            f"{method} changes the classifier head {name} alone, which shares its weight with {listed(sharing)}"
        )
    return name, head


def plain_head(model: nn.Module, method: str) -> tuple[str, nn.Linear]:
    """Name and module of a head that can be exchanged: a plain nn.Linear inside the model. Refused
    as in `linear_head`, and otherwise.
    """
    name, head = linear_head(model, method, changes=("weight", "bias"))
    if type(head) is not nn.Linear or not name:
        where = name or "the model itself"
        raise Refused(
            f"{method} needs a plain nn.Linear head inside the model; {where} is {type(head).__name__}"
        )
    return name, head


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in place of the named one, under each of its names; order and names of the
    others stay as they are.
    """
    old = model.get_submodule(name)
    for path in [
        path for path, found in model.named_modules(remove_duplicate=False) if found is old
    ]:
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)


@contextmanager
def settled(models: Iterable[nn.Module], source: Source) -> Iterator[list[int]]:
    """The number of logits of each model, from two samples; heads are noted on the models (see
    `settle_head`) while the context lasts.
    """
    fresh: list[nn.Module] = []
    outputs = []
    try:
        for model in models:
            bare = NOTE not in vars(model)
            outputs.append(_settled(model, _sample(model, source)))
            if bare and NOTE in vars(model):
                fresh.append(model)
        yield outputs
    finally:
        for model in fresh:
            delattr(model, NOTE)


def _settled(model: nn.Module, inputs: Any) -> int:
    """`settle_head`, or an error where a model casts inside of its forward pass to what weights in
    float32 cannot go with.
    """
    try:
        return settle_head(model, inputs)
    except RuntimeError as error:
        if not is_widened(model):
            raise
        first = str(error).strip().splitlines()[0]
        raise EigenforgetError(
            f"the model does not run with its float16 or bfloat16 weights in float32: {first}"
        ) from None


def _sample(model: nn.Module, source: Source) -> Any:
    """The inputs of two samples on the model's device and in its type."""
    inputs = next(source.subset(np.arange(min(2, len(source)))).batches(2)).inputs
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return tree_map(lambda t: t.to(like) if t.is_floating_point() else t.to(like.device), inputs)
