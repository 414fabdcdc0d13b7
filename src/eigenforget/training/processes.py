"""Several processes for one job: who computes which rows, and how results become whole again.

Each process holds the whole model and draws the same batches, sends its own rows through the model
and receives the outputs of all rows. So losses and metrics see whole batches, whatever the number
of processes. Fabric moves the tensors, with gradients; DistributedDataParallel averages the
gradients of the weights.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import warn
from eigenforget.core.text import counted, joined
from eigenforget.core.types import Batch, Outputs
from eigenforget.data.sources import Source

if TYPE_CHECKING:  # it takes as long to load as torch
    from lightning_fabric import Fabric

_STRATEGIES = ("auto", "ddp")
_DEVICES = ("auto", "cpu", "cuda")
_PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true")
_ON_GPUS = ("16-mixed", "16-true")
"""Precisions in float16: on a CPU, Fabric has no 16-mixed, and methods diverged in 16-true."""


def silence_fabric() -> None:
    """Leaves out the notices of Fabric, which sets the levels of its loggers as it loads."""
    importlib.import_module("lightning_fabric")
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Lets torch compute on this many threads of a processor in the block, and then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def accept_old_names() -> None:
    """Leaves out what torch says of two old names, for as long as the process lives.

    They are those of what Fabric's all_gather calls, and of an option of DDP that torch 2.6, which
    we support, knows by no other.
    """
    warnings.filterwarnings(
        "ignore", r".*(broadcast_buffers|functional\.all_gather).* deprecated", FutureWarning
    )


def fabric_over(device: str, *, precision: str, devices: int, strategy: str) -> Fabric:
    """Lightning Fabric on this number of devices; "auto" is a CUDA GPU or the processor.

    "cuda:1" is one certain GPU.

    Raises:
        EigenforgetError: The devices do not exist or do not support the precision, or the strategy
            is not offered.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    check_settings(device, precision=precision, devices=devices, strategy=strategy)
    kind, _, number = _settled(device).partition(":")
    chosen: dict[str, Any] = {
        "accelerator": kind,
        "devices": [int(number)] if number else devices,
        "precision": precision,
        "strategy": "ddp" if devices > 1 else "auto",
    }
    try:
        fabric = Fabric(**chosen)
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        several = f" on {devices} devices" if devices > 1 else ""
        raise EigenforgetError(
            f"device {device!r}{several} with precision {precision!r}: {error}"
        ) from None
    if devices > 1:
        atexit.register(_end_group)
    return fabric


def _end_group() -> None:
    """Ends the group of processes while Python still runs.

    A process that ends with its group in place may abort: a thread of Gloo still holds a tensor.
    Fabric ends groups of NCCL only.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def settled_precision(device: torch.device, precision: str) -> str:
    """The precision that this device computes in hardware.

    A processor without instructions for bfloat16 imitates it: training took eight times as long as
    in float32. It then trains in float32, and a warning says so.
    """
    if device.type != "cpu" or not precision.startswith("bf16") or has_bfloat16():
        return precision
    warn(
        f"precision {precision}: this processor has no instructions for bfloat16 and would be many "
        "times slower than in float32; training in 32-true"
    )
    return "32-true"


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; True where torch cannot say."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("architecture") != "x86_64":
        return True
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "avx10_2"))


def check_settings(
    device: str = "auto",
    *,
    precision: str = "32-true",
    devices: int = 1,
    strategy: str = "auto",
    accumulate: int = 1,
) -> None:
    """Checks where and how an engine is to compute, before anything is loaded or started for it.

    Raises:
        EigenforgetError: A setting is none of those that there are, the machine has no such
            devices, or they do not support the precision.
    """
    most = max(64, os.cpu_count() or 1)
    if not 1 <= devices <= most:
        raise EigenforgetError(f"devices must be from 1 to {most} on this machine, got {devices}")
    if not 1 <= accumulate <= 10**9:
        raise EigenforgetError(
            f"accumulate must be from 1 to 1,000,000,000 batches, got {accumulate}"
        )
    if strategy == "fsdp":
        raise EigenforgetError(
            "strategy fsdp is not offered, as methods, penalties and audits read whole weights on "
            "each device; use ddp"
        )
    if strategy not in _STRATEGIES:
        raise EigenforgetError(f"strategy {strategy!r} must be one of {', '.join(_STRATEGIES)}")
    if precision not in _PRECISIONS:
        raise EigenforgetError(f"precision {precision!r} must be one of {', '.join(_PRECISIONS)}")
    _check_device(device, devices)
    if _settled(device) == "cpu" and precision in _ON_GPUS:
        others = [name for name in _PRECISIONS if name not in _ON_GPUS]
        raise EigenforgetError(
            f"precision {precision!r} needs a GPU; on a CPU there are {joined(others)}"
        )


def _check_device(device: str, devices: int) -> None:
    """Checks that the device is one of ours, and that the machine has as many of them."""
    kind, colon, number = str(device).partition(":")
    if kind not in _DEVICES:
        raise EigenforgetError(
            f"device {device!r} must be one of {', '.join(_DEVICES)}, or one GPU, as in cuda:1"
        )
    if colon and (kind != "cuda" or not number.isdecimal() or devices > 1):
        raise EigenforgetError(f"device {device!r}: a number is for one GPU, as in cuda:1")
    if kind != "cuda":
        return
    there = torch.cuda.device_count()
    if (int(number) + 1 if number else devices) > there:
        several = f" on {devices} devices" if devices > 1 else ""
        cure = "take fewer, or cpu" if there else "take cpu or auto"
        has = counted(there, "CUDA GPU", "CUDA GPUs") if there else "no CUDA GPU"
        raise EigenforgetError(f"device {device!r}{several}: torch finds {has} here; {cure}")


def _settled(device: str) -> str:
    """The device that "auto" means on this machine."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.device_count() else "cpu"


def bounds(samples: int, *, count: int) -> list[int]:
    """Where each process' rows of a batch begin, and the end: `count + 1` ascending numbers.

    Shares are not padded; their sizes differ by one at most.
    """
    return [rank * samples // count for rank in range(count + 1)]


def own_rows(inputs: Any, rows: slice, samples: int) -> Any:
    """These rows of each tensor in `inputs` that has one row per sample; others as they are."""

    def cut(value: Any) -> Any:
        divisible = isinstance(value, Tensor) and value.ndim and len(value) == samples
        return value[rows] if divisible else value

    return tree_map(cut, inputs)


@dataclass(frozen=True)
class Processes:
    """The processes of a job, seen from one of them.

    Methods that return something of all processes are collective: each process has to call them.

    Attributes:
        fabric: Lightning Fabric, after `launch()`.
    """

    fabric: Fabric

    @cached_property
    def count(self) -> int:
        """Number of processes."""
        return self.fabric.world_size

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.fabric.global_rank

    def rows(self, samples: int) -> slice:
        """The rows of a batch that this process computes."""
        edges = bounds(samples, count=self.count)
        return slice(edges[self.rank], edges[self.rank + 1])

    def shared(
        self,
        call: Callable[[Any], Outputs],
        inputs: Any,
        samples: int,
        normalising: int | None = None,
    ) -> Outputs:
        """`call(inputs)`, for which each process computes its rows of the inputs.

        Batch norm in training takes its statistics from the rows of all processes. A batch with
        fewer samples than processes is computed by each of them.

        Args:
            call: The model, as a function of its inputs.
            inputs: A batch.
            samples: Number of samples in it.
            normalising: Batch norm in training takes its statistics from that many samples at the
                end alone, and at 0 uses its running ones; None: from all.
        """
        first = 0 if normalising is None else samples - normalising
        if not 1 < self.count <= samples:
            if normalising is None:
                return call(inputs)
            with _BatchNorm(samples, first):
                return call(inputs)
        own, edges = self.rows(samples), bounds(samples, count=self.count)
        fabric = None if normalising == 0 else self.fabric
        with _BatchNorm(own.stop - own.start, first - own.start, fabric):
            outputs = call(own_rows(inputs, own, samples))

        def whole(tensor: Tensor) -> Tensor:
            if len(tensor) != own.stop - own.start:
                raise EigenforgetError(
                    f"a batch of {samples} samples cannot be divided over processes: "
                    f"{own.stop - own.start} rows gave {len(tensor)} outputs"
                )
            return torch.cat(self._gathered(tensor, [b - a for a, b in pairwise(edges)]))

        others = {name: whole(rows) for name, rows in outputs.layers.items()}
        return Outputs(whole(outputs.logits), whole(outputs.features), others)

    def in_turns(
        self,
        compute: Callable[[Batch], Sequence[Tensor]],
        source: Source,
        batch_size: int,
        *,
        rows: Callable[[Batch], int],
    ) -> Iterator[tuple[Batch, Sequence[Tensor]]]:
        """Each batch of a plain pass, in order and on this device, with `compute(batch)`.

        Processes take turns at whole batches, so that results have the bits that one process
        computes. Where there are fewer batches than processes, each process computes all.

        Args:
            compute: Tensors [rows(batch), ...] of one batch.
            source: Where the batches come from.
            batch_size: Samples per batch.
            rows: The first dimension of what `compute` returns.
        """
        batches = map(self.fabric.to_device, source.batches(batch_size))
        if not 1 < self.count <= math.ceil(len(source) / batch_size):
            yield from ((batch, compute(batch)) for batch in batches)
            return
        own: Sequence[Tensor] = ()
        while turn := list(islice(batches, self.count)):
            if self.rank < len(turn):
                own = compute(turn[self.rank])
            # Without a batch in the last turn, a process sends what it found before: it has the
            # right shape, and nobody reads it.
            sizes = [rows(batch) for batch in turn]
            columns = [self._gathered(tensor, sizes) for tensor in own]
            yield from zip(turn, zip(*columns, strict=True), strict=True)

    def summed(self, value: float) -> float:
        """The sum of a number over the processes."""
        if self.count == 1:
            return value
        return float(self._stacked(torch.tensor(value, dtype=torch.float64)).sum())

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes, in float64 where there are several."""
        return values if self.count == 1 else self._stacked(values.double()).mean(0)

    def check_same(self, model: nn.Module, when: str) -> None:
        """Check that the model is the same in all processes.

        Raises:
            EigenforgetError: Sums of a parameter or buffer differ; `when` says what to do.
        """
        if self.count == 1:
            return
        tensors = [*model.named_parameters(), *model.named_buffers()]
        sums = self._stacked(
            torch.stack([t.detach().double().nan_to_num().sum() for _, t in tensors])
        )
        differs = (sums != sums[0]).any(0)
        if differs.any():
            name = tensors[int(differs.int().argmax())][0]
            raise EigenforgetError(f"{name} is not the same on all {self.count} ranks {when}")

    def averaging(self, loss: nn.Module) -> nn.Module:
        """The module, whose backward pass leaves the mean of the processes' gradients.

        A parameter that the output does not depend on in any process keeps the gradient None.
        """
        if self.count == 1:
            return loss
        return DistributedDataParallel(loss, find_unused_parameters=True, broadcast_buffers=False)

    def _stacked(self, own: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape, along a new first dimension.

        The backward pass adds the gradients of all processes. Every process computes the whole loss
        L of the gathered outputs z, so of W processes each receives W · ∂L/∂z for its rows, and the
        mean over processes of the weights' gradients is that of one process.
        """
        return _all_gathered(self.fabric, own)

    def _gathered(self, own: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """The tensors [sizes[rank], ...] of the first `len(sizes)` processes."""
        missing = max(sizes) - len(own)
        padded = torch.cat([own, own.new_zeros(missing, *own.shape[1:])]) if missing > 0 else own
        stacked = self._stacked(padded[: max(sizes)])
        return [rows[:size] for rows, size in zip(stacked, sizes, strict=False)]


def _all_gathered(fabric: Fabric, own: Tensor) -> Tensor:
    return cast("Tensor", fabric.all_gather(own, sync_grads=True))


class _BatchNorm(TorchFunctionMode):
    """Lets nn.functional.batch_norm in training take statistics from chosen rows of all processes.

    torch.nn.SyncBatchNorm cannot do this here: it refuses tensors on a CPU, has to be put in the
    place of the user's layers, and where a batch is computed whole by each process it would count
    each row several times.

    Args:
        samples: In the batch of this process.
        first: Number of the first of them that counts; where none of any process does, the running
            statistics are used.
        fabric: The processes that have rows of the same batch; None: this one alone.
    """

    def __init__(self, samples: int, first: int, fabric: Fabric | None = None) -> None:
        super().__init__()
        self._share = min(max(first, 0) / samples, 1.0)
        self._fabric = fabric
        self._batch_norm = _batch_norm if fabric is None else _eager_batch_norm()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.batch_norm:
            return self._batch_norm(self._fabric, self._share, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    fabric: Fabric | None,
    share: float,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """nn.functional.batch_norm of input [B, C, ...] with mean and variance over chosen rows.

    The first rows, of this share, do not count. The gradient goes through the statistics for all
    rows. The means and squared deviations of the processes are merged in their order (Chan, Golub,
    LeVeque 1983), without a difference of large sums.
    """
    if not training or (share == 1 and fabric is None):
        own = training and running_mean is None  # without running statistics there are no others
        return nn.functional.batch_norm(
            input, running_mean, running_var, weight, bias, own, momentum, eps
        )
    wide = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    counted = wide[round(share * len(wide)) :]
    axes, shape = [0, *range(2, input.ndim)], (1, -1, *[1] * (input.ndim - 2))
    values = counted.numel() // counted.shape[1]
    local = counted.sum(axes) / max(values, 1)
    squares = (counted - local.view(shape)).square().sum(axes)
    sums = torch.cat([local.new_full((1,), values), local, squares]).double()
    merged = sums[None] if fabric is None else _all_gathered(fabric, sums)
    counts, means, deviations = torch.split(merged, [1, len(local), len(local)], dim=1)
    count = counts.detach().sum()
    mean = (counts.detach() * means).sum(0) / count
    variance = (deviations + counts.detach() * (means - mean).square()).sum(0) / count
    if running_mean is not None and running_var is not None:
        # Through `data`, which no backward pass watches: where another batch of the step had fewer
        # rows than processes, torch's own kernel has saved these very tensors for its backward
        # pass, although it reads none of their values there.
        unbiased = variance.detach() * count / (count - 1)
        running_mean.data.lerp_(mean.detach().to(running_mean.dtype), momentum)
        running_var.data.lerp_(unbiased.to(running_var.dtype), momentum)
    scale = (variance + eps).rsqrt().to(wide.dtype).view(shape)
    normal = (wide - mean.to(wide.dtype).view(shape)) * scale
    scaled = normal if weight is None else normal * weight.view(shape)
    shifted: Tensor = scaled if bias is None else scaled + bias.view(shape)
    return shifted.to(input.dtype)


# What processes exchange is no part of a compiled graph.
@cache
def _eager_batch_norm() -> Callable[..., Tensor]:
    """`_batch_norm`, left alone by torch.compile; asking for that loads all of the compiler."""
    return torch.compiler.disable(_batch_norm)  # type: ignore[no-untyped-call, no-any-return]
