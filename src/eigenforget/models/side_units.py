"""Neurons beside the layers of a model, which samples can be sent through and which can be dropped.

The model itself stays as it is: what is trained beside it goes when the units go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.models.heads import head_if_any
from eigenforget.models.initialisation import WEIGHTED, reinitialise
from eigenforget.models.wrappers import device_of


class SideUnits(nn.Module):
    """Hidden units beside each inner linear layer and convolution of a model.

    In `beside`, a layer y = W(x) becomes y = W(x) + B(m ∘ relu(A(x))). A has the form of W with
    other output channels, and B maps these to the channels of y. The mask m [B, K] says which of
    all K units a sample goes through. Without `beside` nothing is added.

    Args:
        model: The model that `beside` will be called with, or one of the same form.
        capacity: Units of a layer, as a share of its output channels.
        seed: The initial weights depend on it.
        method: Name of the method, for messages.

    Raises:
        Refused: The model has no linear layer or convolution before its head.
    """

    def __init__(self, model: nn.Module, *, capacity: float, seed: int, method: str) -> None:
        super().__init__()
        named = inner_layers(model)
        if not named:
            raise Refused(
                f"{method} puts units beside the layers before the head, and this model has no "
                "linear layer or convolution there"
            )
        self.names = list(named)
        self.sizes = [max(1, round(capacity * layer.weight.shape[0])) for layer in named.values()]
        pairs = list(zip(named.values(), self.sizes, strict=True))
        with seeds.torch_state_kept(device_of(model)):
            self.into = nn.ModuleList(_like(layer, size) for layer, size in pairs)
            self.back = nn.ModuleList(_back(layer, size) for layer, size in pairs)
        new = {name: module for name, module in self.named_modules() if name.count(".") == 1}
        reinitialise(new, seed=seed, method=method)

    @contextmanager
    def beside(self, model: nn.Module, mask: Tensor) -> Iterator[None]:
        """Passes through the model go through the units as well, while the context lasts.

        Args:
            model: The model.
            mask: Which units each sample of the batch goes through, bool [B, K].
        """
        parts = torch.split(mask, self.sizes, dim=1)
        handles = []
        try:
            for name, into, back, own in zip(self.names, self.into, self.back, parts, strict=True):
                layer = model.get_submodule(name)
                handles.append(layer.register_forward_hook(partial(_added, into, back, own)))
            yield
        finally:
            for handle in handles:
                handle.remove()


class WideModel(nn.Module):
    """A model with units beside it, as one module to train; a pass goes through the model alone."""

    def __init__(self, side: SideUnits, model: nn.Module) -> None:
        super().__init__()
        # The head is the last linear layer, where no note names it: the model comes last.
        self.side, self.model = side, model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model alone gives."""
        return self.model(*args, **kwargs)


class Masks:
    """The units that each sample goes through, drawn once: one mask for many, others of their own.

    Args:
        units: The number of units K.
        shared: How many samples, from position 0 on, have the same mask.
        others: How many samples after these have a mask of their own.
        share: Chance of a unit to be in a mask.
        seed: The draws depend on it.
    """

    def __init__(self, units: int, *, shared: int, others: int, share: float, seed: int) -> None:
        self._shared = shared
        generator = seeds.generator(seed, "masks")
        # A byte per entry, drawn in pieces: float32 draws of all would be four times as large.
        rows = [
            torch.rand(min(_ROWS, 1 + others - first), units, generator=generator) < share
            for first in range(0, 1 + others, _ROWS)
        ]
        self._rows = torch.cat(rows)

    def of(self, positions: Tensor) -> Tensor:
        """The masks of samples at these positions, bool [B, K], on the same device."""
        self._rows = self._rows.to(positions.device)
        return self._rows[(positions - self._shared + 1).clamp_min(0)]


_ROWS = 1024
"""Masks drawn at once."""


def inner_layers(model: nn.Module) -> dict[str, Any]:
    """Linear layers and convolutions before the head by name.

    Without a linear head the last registered one counts as the head.
    """
    found = {name: m for name, m in model.named_modules() if isinstance(m, WEIGHTED)}
    head = head_if_any(model)
    last = head[0] if head is not None else next(reversed(found), None)
    return {name: layer for name, layer in found.items() if name != last}


def _like(layer: Any, size: int) -> nn.Module:
    """A layer of the same form with `size` output channels, over all input channels."""
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, size, **place)
    form = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    settings = {name: getattr(layer, name) for name in form}
    return _kind(layer)(layer.in_channels, size, **settings, **place)


def _back(layer: Any, size: int) -> nn.Module:
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(size, layer.out_features, bias=False, **place)
    return _kind(layer)(size, layer.out_channels, 1, bias=False, **place)


def _kind(layer: nn.Module) -> Callable[..., nn.Module]:
    return next(kind for kind in WEIGHTED if isinstance(layer, kind))


def _added(
    into: nn.Module, back: nn.Module, mask: Tensor, layer: nn.Module, args: Any, output: Tensor
) -> Tensor:
    """The output of a layer and what its units add to it."""
    hidden: Tensor = into(args[0]).relu()
    if len(hidden) != len(mask):
        raise Refused(
            f"units beside {type(layer).__name__} need inputs with a row a sample; this model has "
            f"{len(hidden)} rows for {len(mask)} samples"
        )
    if isinstance(layer, nn.Linear):
        shape: Sequence[int] = (len(mask), *[1] * (hidden.ndim - 2), mask.shape[1])
    else:
        shape = (*mask.shape, *[1] * (hidden.ndim - 2))
    added: Tensor = back(hidden * mask.view(*shape).to(hidden))
    return output + added
