"""Fresh random weights for a module that already exists."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from eigenforget.types import Refused, listed


def reinitialise(modules: Mapping[str, nn.Module], *, seed: int, method: str) -> None:
    """Set all parameters and buffers that these modules (name -> module, parents first) own, in place, from the seed alone.

    Children are reset before their parents, so a container's own reset_parameters() has the last word. Modules on the CPU
    draw the same numbers whatever device they run on later; global random states are left as they were. Refused, by name: a
    module with tensors and no reset_parameters(), or one whose reset_parameters() leaves part of them as it was.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        own = dict(chain(module.named_parameters(name, recurse=False), module.named_buffers(name, recurse=False)))
        if own and not _resettable(module):
            what = f"{type(module).__name__} owns {listed(own)} and has no reset_parameters()"
            raise Refused(f"{method} cannot draw every weight anew: {what}")
        tensors |= own
    # Two resets over different contents agree exactly where the old content has no influence.
    first, second = (_reset(modules, tensors, fill, seed) for fill in (0, 1))
    for name, a, b in zip(tensors, first, second, strict=True):
        if not torch.equal(a, b):
            raise Refused(f"{method} cannot draw every weight anew: reset_parameters() leaves (part of) {name} as it was")


def _reset(modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], fill: int, seed: int) -> list[Tensor]:
    # Not torch.manual_seed: it would also reseed the accelerators, which fork_rng(devices=[]) does not restore.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for tensor in tensors.values():
            tensor.fill_(fill)
        for module in reversed(list(modules.values())):
            if _resettable(module):
                module.reset_parameters()  # type: ignore[operator]
    return [tensor.clone() for tensor in tensors.values()]


def _resettable(module: nn.Module) -> bool:
    return callable(getattr(module, "reset_parameters", None))
