"""What other libraries put around a module, taken off; what is no plain module is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import joined, listed
from eigenforget.models.checkpoint import named_tensors
from eigenforget.models.precision import check_types

_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def unwrapped(model: nn.Module) -> nn.Module:
    """The plain module in the types that it has; it shares its weights with the given one.

    torch.compile, DataParallel, DistributedDataParallel and Fabric's wrapper are taken off.

    Raises:
        EigenforgetError: Weights are quantised, complex, in 8-bit types, in shards, on several
            devices, or without storage or shape; or the model is TorchScript, or holds a wrapped
            one.
    """
    while (inner := _inside(model)) is not None:
        model = inner
    nested = [
        name for name, module in model.named_modules() if name and _inside(module) is not None
    ]
    if nested:
        raise EigenforgetError(
            f"{listed(nested)} inside {type(model).__name__} is wrapped or compiled; give the "
            "model without that"
        )
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule) or type(module).__name__ in _SHARDED:
            raise EigenforgetError(
                f"{type(module).__name__} cannot be unlearned; give the plain nn.Module that it "
                "was made from"
            )
    for name, tensor in model.named_parameters():
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise EigenforgetError(
                f"{name} has no {'storage' if tensor.is_meta else 'shape'} yet; load or run the "
                "model first"
            )
    devices = sorted({str(p.device) for p in model.parameters()})
    if len(devices) > 1:
        raise EigenforgetError(
            f"the model lies on {joined(devices)}; move it to one device: model.to({devices[0]!r})"
        )
    check_types(model)
    return model


@contextmanager
def on_its_device(*models: nn.Module) -> Iterator[list[Place]]:
    """The modules are afterwards on the device and in the memory order that they had.

    Engines change both in place. Yields the place of each.
    """
    places = [Place.of(model) for model in models]
    try:
        yield places
    finally:
        for model, place in zip(models, places, strict=True):
            place.put(model)


class Place(NamedTuple):
    """Where a module's tensors are.

    Attributes:
        device: That of its first parameter; None where it has none.
        strides: The memory order of each tensor, by name.
    """

    device: torch.device | None
    strides: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: nn.Module) -> Place:
        """The place of a module."""
        strides = {name: tensor.stride() for name, tensor in named_tensors(model)}
        return cls(next((p.device for p in model.parameters()), None), strides)

    def put(self, model: nn.Module) -> nn.Module:
        """Moves a module there in place, as far as its tensors have the same names; returns it."""
        if self.device is not None:
            model.to(self.device)
        for name, tensor in named_tensors(model):
            stride = self.strides.get(name, tensor.stride())
            if tensor.stride() != stride and len(stride) == tensor.ndim:
                order = sorted(range(tensor.ndim), key=lambda axis: -stride[axis])
                back = [order.index(axis) for axis in range(tensor.ndim)]
                tensor.data = tensor.detach().permute(order).contiguous().permute(back)
        return model


def device_of(model: nn.Module) -> torch.device:
    """The device of a module's first parameter; the CPU where it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _inside(module: nn.Module) -> nn.Module | None:
    """What a wrapper that only changes how a module runs is wrapped around."""
    wrapper: Any = module
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return cast("nn.Module", module.module)
    if type(module).__name__ == "_FabricModule":
        return cast("nn.Module", wrapper.module)
    return dict(module.named_children()).get("_orig_mod")
