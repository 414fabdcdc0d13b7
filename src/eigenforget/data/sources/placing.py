"""Keeps the samples of a training on its device, where they fit there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from eigenforget.data.sources.inputs import Inputs, mapped
from eigenforget.data.sources.kinds import JoinedSource, Source, TensorSource


def near(sources: Sequence[Source], device: torch.device, room: int) -> tuple[Source, ...]:
    """The sources with their tensors on a device: all of them, or none.

    Those that are read from elsewhere stay as they are.

    Args:
        sources: Sources.
        device: Where to keep them.
        room: Bytes that they may take there.
    """
    needed = sum(_size(source, device) for source in sources)
    if not 0 < needed <= room:
        return tuple(sources)
    return tuple(_moved(source, device) for source in sources)


def room_on(device: torch.device) -> int:
    """Bytes that samples may take on a device: a quarter of what is free on a GPU, else none.

    What is left is for the model, its gradients and what a step keeps.
    """
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 0


def _size(source: Source, device: torch.device) -> int:
    """Bytes that would move to the device."""
    if isinstance(source, JoinedSource):
        return sum(_size(part, device) for part in source.parts)
    if not isinstance(source, TensorSource):
        return 0
    there = (*_tensors(source.inputs), source.targets)
    return sum(tensor.nbytes for tensor in there if tensor.device != device)


def _moved(source: Source, device: torch.device) -> Source:
    if isinstance(source, JoinedSource):
        return JoinedSource(tuple(_moved(part, device) for part in source.parts))
    if not isinstance(source, TensorSource):
        return source
    moved = mapped(source.inputs, lambda value: value.to(device))
    return replace(source, inputs=moved, targets=source.targets.to(device))


def _tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(inputs.values()) if isinstance(inputs, Mapping) else (inputs,)
