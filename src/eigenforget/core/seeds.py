"""One random generator per seed and purpose.

A new consumer of randomness therefore never changes the numbers of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on the seed and on each word of the purpose."""
    text = "\x1f".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def torch_state_kept(device: torch.device | None = None) -> Iterator[None]:
    """The random state of torch on the CPU and on this device is afterwards as it was before.

    That of Apple's GPUs (mps) is not: torch cannot keep it.
    """
    import torch

    kind = "cpu" if device is None else device.type
    if device is None or kind in ("cpu", "meta", "mps"):
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device.index or 0], device_type=kind):
            yield


def seed_torch(seed: int, device: torch.device | None = None) -> None:
    """Seeds torch on the CPU and on this device, and nowhere else.

    torch.manual_seed would also seed every other device, whose state nobody restores.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device is None or device.type in ("cpu", "meta"):
        return
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        getattr(torch, device.type).manual_seed(seed)
