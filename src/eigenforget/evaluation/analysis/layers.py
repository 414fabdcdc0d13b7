"""Which earlier layers to look at where none was named."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import Source
from eigenforget.models.features import find_head
from eigenforget.training.engine import Engine

_MOST = 3
_MAX_WIDTH = 2048
"""Wider outputs are left to be named: their spectra cost the cube of the width."""


def earlier_layers(
    model: nn.Module, source: Source, *, engine: Engine, layer: str | None = None
) -> tuple[str, ...]:
    """Names of up to three blocks before the headline layer, evenly over the depth, first to last.

    Blocks are the children of the model that own weights, in the order in which it registers them.
    A child that holds most of the weights or the head, or is a list of layers, is replaced by its
    own children. Left out are normalisation, the head and what follows it, the headline layer, and
    single layers if there are blocks of several. Blocks are also left out if they give the same
    features as the headline layer, do not run, or do not give rows of 2 … 2048 features.

    Args:
        model: The model.
        source: Samples, of which two go through each block.
        engine: Where to compute.
        layer: The headline layer; None for the input of the classifier head.
    """
    head = find_head(model)[1] if layer is None else model.get_submodule(layer)
    names = [name for name in _blocks(model, head) if _has_weights(model.get_submodule(name))]
    two = source.subset(np.arange(min(2, len(source))))
    # A bare convolution or linear map beside whole blocks is a stem or a projection.
    whole = [name for name in names if any(True for _ in model.get_submodule(name).children())]
    headline, usable = _features(engine, model, two, layer, None), []
    for name in whole or names:
        try:
            found = _features(engine, model, two, layer, name)
        except EigenforgetError:
            continue  # did not run in the forward pass, or gives no tensor: not a layer to look at
        if 2 <= found.shape[1] <= _MAX_WIDTH and not _same(found, headline):
            usable.append(name)
    places = (
        np.unique(np.linspace(0, len(usable) - 1, _MOST).round().astype(int))
        if len(usable) > _MOST
        else range(len(usable))
    )
    return tuple(usable[i] for i in places)


def _blocks(model: nn.Module, head: nn.Module, prefix: str = "") -> list[str]:
    """Names of the blocks before `head`, in order."""
    found: list[str] = []
    total = _size(model)
    for name, child in model.named_children():
        full = f"{prefix}{name}"
        if child is head:
            break
        if head in set(child.modules()):
            return found + _blocks(child, head, f"{full}.")
        if isinstance(child, nn.ModuleList) or (
            isinstance(child, nn.Sequential) and 2 * _size(child) > total and len(child) > _MOST
        ):
            found += _blocks(child, head, f"{full}.")
        else:
            found.append(full)
    return found


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _has_weights(module: nn.Module) -> bool:
    """Whether there is more than scales and shifts."""
    return any(p.ndim > 1 for p in module.parameters())


def _features(
    engine: Engine, model: nn.Module, source: Source, layer: str | None, name: str | None
) -> Tensor:
    """Features of the named layer, or of the headline one."""
    _, outputs = next(
        iter(engine.forward(model, source, layer=layer, layers=() if name is None else (name,)))
    )
    return outputs.features if name is None else outputs.layers[name]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-4 * b.abs().max())
