"""Several processes for one job: who computes which rows, and how what they found becomes one
again, in the order of their ranks.

Each rank holds the whole model, draws the same batches, sends its own rows through the model and
receives the outputs of all rows, so that losses and metrics see whole batches whatever the number
of ranks. All functions are collective: every rank has to call them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.data.sources import Source

Strategy = Literal["auto", "ddp"]


def fabric_over(device: str, precision: str, *, devices: int, strategy: str) -> Fabric:
    """Fabric on that many devices. Errors: they do not exist, or are no place for this precision; a
    strategy that is not offered.
    """
    if devices < 1:
        raise EigenforgetError(f"devices {devices} must be 1 or more")
    if strategy == "fsdp":
        raise EigenforgetError(
            "strategy fsdp is not offered: methods, penalties and audits read whole weights on each device; use ddp"
        )
    if strategy not in get_args(Strategy):
        raise EigenforgetError(
            f"strategy {strategy!r} must be one of {', '.join(get_args(Strategy))}"
        )
    if device == "cpu" and precision.startswith("16"):
        raise EigenforgetError(
            f"precision {precision!r} needs a GPU; on a CPU there are 32-true, 64-true, bf16-mixed and bf16-true"
        )
    over: Any = Replicas() if devices > 1 else "auto"
    try:
        return Fabric(accelerator=device, devices=devices, precision=precision, strategy=over)  # type: ignore[arg-type]
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        several = f" on {devices} devices" if devices > 1 else ""
        raise EigenforgetError(
            f"device {device!r}{several} with precision {precision!r}: {error}"
        ) from None


def ranks_of(fabric: Fabric, devices: int) -> Ranks:
    """This process among those of the job. Errors: there are to be several, and they were not
    launched.
    """
    if devices == 1:
        return Ranks(0, 1, fabric.device)
    if not dist.is_initialized():
        raise EigenforgetError(
            f"an engine on {devices} devices works after engine.fabric.launch() in a script, or under torchrun"
        )
    return Ranks(fabric.global_rank, fabric.world_size, fabric.device)


class Replicas(DDPStrategy):
    """Fabric's ddp (launching, devices, process group) around a plain module;
    `Ranks.average_gradients` takes the place of its reducer.

    DistributedDataParallel waits for the gradient of every parameter behind its output. Losses of
    features alone never reach the head, and a gradient of 0 in the place of none would let weight
    decay move it.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        return module


class Ranks(NamedTuple):
    """This process among those of the job; world=1 communicates with nobody."""

    rank: int
    world: int
    device: torch.device

    def share(self, count: int) -> Share:
        """Which rows of a batch of `count` samples this rank computes: consecutive ones, or all
        where there are fewer than ranks.
        """
        return Share(self, count, 1 < self.world <= count)

    def is_divided(self, source: Source, batch_size: int) -> bool:
        """Whether ranks take turns at whole batches of a plain pass; where there are fewer batches
        than ranks, each computes all.
        """
        return 1 < self.world <= math.ceil(len(source) / batch_size)

    def turns(self, source: Source, batch_size: int) -> Iterator[list[Batch]]:
        """The batches of a plain pass, in order, as many together as ranks take turns at."""
        batches = source.batches(batch_size)
        size = self.world if self.is_divided(source, batch_size) else 1
        while group := list(islice(batches, size)):
            yield group

    def exchanged(self, own: Outputs | None, count: int, layers: Sequence[str]) -> list[Outputs]:
        """The outputs on each of the `count` batches of a turn, in order; `own` are those of the
        batch at this rank's place, if any.
        """
        mine = None if own is None else [own.logits, own.features, *own.layers.values()]
        forms: list[Any] = [None] * self.world
        dist.all_gather_object(
            forms, None if mine is None else [(tuple(t.shape), t.dtype) for t in mine]
        )
        found = []
        for source, form in enumerate(forms[:count]):
            tensors = (
                mine
                if source == self.rank and mine
                else [torch.empty(shape, dtype=kind, device=self.device) for shape, kind in form]
            )
            tensors = [self._broadcast(tensor.contiguous(), source) for tensor in tensors]
            found.append(
                Outputs(tensors[0], tensors[1], dict(zip(layers, tensors[2:], strict=True)))
            )
        return found

    def received(self, own: Tensor | None, count: int, like: Tensor) -> Iterator[Tensor]:
        """The tensors of the first `count` ranks, in order; each has the shape and type of `like`."""
        for source in range(count):
            yield self._broadcast(
                own.contiguous()
                if source == self.rank and own is not None
                else torch.empty_like(like),
                source,
            )

    def summed(self, value: float) -> float:
        """The sum of a number over the ranks."""
        if self.world == 1:
            return value
        return float(
            _stacked(torch.tensor([value], dtype=torch.float64, device=self.device), self).sum()
        )

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes the mean over the ranks; a parameter without one on any rank stays
        without.
        """
        if self.world == 1:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for group in kinds.values():
            self._average(group)

    def _average(self, group: Sequence[nn.Parameter]) -> None:
        reached = torch.tensor(
            [float(p.grad is not None) for p in group], dtype=group[0].dtype, device=group[0].device
        )
        flat = torch.cat(
            [
                *(
                    torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)
                    for p in group
                ),
                reached,
            ]
        )
        dist.all_reduce(flat)
        *means, count = (flat / self.world).split([*(p.numel() for p in group), len(group)])
        for parameter, mean, any_rank in zip(group, means, count.tolist(), strict=True):
            if any_rank > 0:
                parameter.grad = mean.view_as(parameter).clone(memory_format=torch.preserve_format)

    def check_alike(self, model: nn.Module, when: str) -> None:
        """Errors: the ranks hold other weights or buffers than rank 0."""
        if self.world == 1:
            return
        tensors = [*model.named_parameters(), *model.named_buffers()]
        sums = torch.stack([t.detach().double().nan_to_num().sum() for _, t in tensors])
        first = self._broadcast(sums.clone(), 0)
        differs = (sums != first).to(torch.uint8)
        dist.all_reduce(differs, dist.ReduceOp.MAX)
        if differs.any():
            name = tensors[int(differs.argmax())][0]
            raise EigenforgetError(f"{name} is not the same on all {self.world} ranks {when}")

    def _broadcast(self, tensor: Tensor, source: int) -> Tensor:
        dist.broadcast(tensor, source)
        return tensor


class Share(NamedTuple):
    """The rows of one training batch that this rank computes. Shares are not padded: their sizes
    differ by one at most.
    """

    ranks: Ranks
    samples: int
    divided: bool

    def bounds(self, rank: int) -> tuple[int, int]:
        return rank * self.samples // self.ranks.world, (
            rank + 1
        ) * self.samples // self.ranks.world

    def of(self, inputs: Any) -> Any:
        """This rank's rows of the inputs."""
        if not self.divided:
            return inputs
        start, end = self.bounds(self.ranks.rank)

        def rows(value: Any) -> Any:
            return (
                value[start:end]
                if isinstance(value, Tensor) and value.ndim and len(value) == self.samples
                else value
            )

        return tree_map(rows, inputs)

    def gathered(self, outputs: Outputs) -> Outputs:
        """The outputs of all rows in the order of the batch."""
        if not self.divided:
            return outputs
        return Outputs(
            self._all(outputs.logits),
            self._all(outputs.features),
            {name: self._all(rows) for name, rows in outputs.layers.items()},
        )

    def whole_batch(self) -> AbstractContextManager[Any]:
        """While it lasts, batch norm takes its statistics from the rows of all ranks."""
        return _WholeBatch(self.ranks) if self.divided else nullcontext()

    def _all(self, own: Tensor) -> Tensor:
        start, end = self.bounds(self.ranks.rank)
        if len(own) != end - start:
            message = f"a batch of {self.samples} samples cannot be divided over ranks"
            raise EigenforgetError(f"{message}: {end - start} rows gave {len(own)} outputs")
        return cast("Tensor", _Gathered.apply(own, self))


class _Gathered(torch.autograd.Function):
    """[rows of this rank, ...] -> [rows of all ranks, ...].

    Every rank computes the loss L of all outputs z and of θ itself, so each has ∂L/∂z whole. Of W
    ranks, rank r gives W · J_rᵀ (∂L/∂z)_r plus ∂L/∂θ (penalties), where J_r is the derivative of
    its rows z_r; the mean over the ranks is Σ_r J_rᵀ (∂L/∂z)_r + ∂L/∂θ, the gradient of one
    process. Parts that every rank computes whole go through no gather, and their mean is right as
    it is.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share) -> Tensor:
        ctx.share = share
        ranks, bounds = share.ranks, [share.bounds(rank) for rank in range(share.ranks.world)]
        longest = max(end - start for start, end in bounds)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        received = [torch.empty_like(padded) for _ in range(ranks.world)]
        dist.all_gather(received, padded)
        return torch.cat(
            [rows[: end - start] for rows, (start, end) in zip(received, bounds, strict=True)]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        start, end = ctx.share.bounds(ctx.share.ranks.rank)
        return gradient[start:end] * ctx.share.ranks.world, None


class _WholeBatch(TorchFunctionMode):
    """Calls of nn.functional.batch_norm that use statistics of the batch use those of all ranks'
    rows.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.batch_norm:
            return _batch_norm(self._ranks, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@torch.compiler.disable
def _batch_norm(
    ranks: Ranks,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """nn.functional.batch_norm, with the mean and variance of the rows of all ranks."""
    if not training:
        return nn.functional.batch_norm(
            input, running_mean, running_var, weight, bias, False, momentum, eps
        )
    normal, mean, variance, count = _Normalised.apply(input, eps, ranks)
    if running_mean is not None and running_var is not None:
        # Through `data`, which no backward pass watches: where another batch of the step had fewer
        # rows than ranks, torch's own kernel has saved these very tensors for its backward pass,
        # although it reads none of their values there.
        running_mean.data.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.data.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    shape = (1, -1, *[1] * (input.ndim - 2))
    scaled = normal if weight is None else normal * weight.view(shape)
    return (scaled if bias is None else scaled + bias.view(shape)).to(input.dtype)


class _Normalised(torch.autograd.Function):
    """x [B, C, ...] -> (x − mean) / √(variance + eps), mean [C], variance [C] and count over the
    rows of all ranks.

    The means and squared deviations of the ranks are merged in their order (Chan, Golub, LeVeque
    1983), without a difference of large sums.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        local = wide.mean(axes)
        deviations = (wide - local.view(shape)).square().sum(axes)
        own = torch.cat([local.new_full((1,), x.numel() / x.shape[1]), local, deviations]).double()
        counts, means, squares = _stacked(own, ranks).split([1, len(local), len(local)], 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        scale = (variance + eps).rsqrt().to(wide.dtype).view(shape)
        normal = (wide - mean.to(wide.dtype).view(shape)) * scale
        ctx.ranks, ctx.axes, ctx.shape = ranks, axes, shape
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        ctx.kind = x.dtype
        return normal, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        normal, scale, count = ctx.saved_tensors
        own = torch.cat([gradient.sum(ctx.axes), (gradient * normal).sum(ctx.axes)]).double()
        total = (_stacked(own, ctx.ranks).sum(0) / count).to(gradient.dtype)
        mean, along = (part.view(ctx.shape) for part in total.chunk(2))
        return (scale * (gradient - mean - normal * along)).to(ctx.kind), None, None


def _stacked(own: Tensor, ranks: Ranks) -> Tensor:
    """The vectors of all ranks as rows, in order."""
    received = [torch.empty_like(own) for _ in range(ranks.world)]
    dist.all_gather(received, own)
    return torch.stack(received)
