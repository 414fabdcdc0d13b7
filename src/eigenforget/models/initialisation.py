"""Fresh random weights for a module that already exists, and what of a module is a constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.text import listed

NORMS = (nn.modules.batchnorm._NormBase,)  # noqa: SLF001 (no public base class)
"""Layers that keep running statistics of what they normalise."""
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Linear layers and convolutions."""
_TABLE = "relative_coords_table"
"""Positions in windows as numbers, which torchvision's Swin V2 keeps in its state dict."""
_ROUNDING = 1e-3
"""How far the norm of a unit vector may be from 1, in half precision."""
_OTHERS = {"retrain": "; train new models instead: train_oracles, or eigenforget train --without"}


def reinitialise(
    modules: Mapping[str, nn.Module],
    *,
    seed: int,
    method: str,
    without_reset: Literal["refused", "own scale"] = "refused",
) -> None:
    """Set all parameters and buffers that these modules own, in place, from the seed alone.

    Children are reset before their parents, so that a container's own reset_parameters() has the
    last word. Modules on the CPU draw the same numbers whatever device they run on later; global
    random states are left as they were. Constants stay: buffers that no state dict holds, masks
    (see `is_mask`), also those of pruning, and tables of positions.

    Args:
        modules: Modules by name, parents first.
        seed: All draws depend on it.
        method: Name of the method, for messages.
        without_reset: What to do with what no reset_parameters() draws. "refused", or "own scale":
            floating-point parameters, such as class tokens, position embeddings and the weights
            behind pruning, weight norm and spectral norm, are drawn from N(0, s²), with s the
            standard deviation of what they hold. Nothing but s stays of them, and a constant tensor
            stays as it is. That is enough for a network that shall know nothing, not for one that
            shall be as if it had never seen the data. Integers stay. Unit vectors, as spectral norm
            keeps them, are drawn as such; other floating-point buffers are refused, since a
            variance must not be negative.

    Raises:
        Refused: A module has other tensors and no reset_parameters() (attention and transformers of
            torch have one of another name), or its reset_parameters() leaves part of them as it
            was.
    """
    tensors: dict[str, Tensor] = {}
    drawn: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}
    at_own_scale = without_reset == "own scale"
    for name, module in modules.items():
        own = dict(
            chain(module.named_parameters(name, recurse=False), _drawn_buffers(name, module))
        )
        if _reset_of(module) is None and at_own_scale:
            own = {key: tensor for key, tensor in own.items() if tensor.is_floating_point()}
            drawn |= _at_own_scale(own, seed)
        elif at_own_scale:
            before |= {key: tensor.detach().clone() for key, tensor in own.items()}
        bare = [key for key in own if key not in drawn]
        if bare and _reset_of(module) is None:
            what = f"{type(module).__name__} owns {listed(bare)} and has no reset_parameters()"
            raise _refusal(method, what)
        tensors |= own
    left = _left(modules, tensors, seed, drawn)
    if left and at_own_scale:
        with torch.no_grad():
            for name in left:
                tensors[name].copy_(before[name])
        drawn |= _at_own_scale({name: tensors[name] for name in left}, seed)
        left = _left(modules, tensors, seed, drawn)
    if left:
        raise _refusal(method, f"reset_parameters() leaves (part of) {left[0]} as it was")


def _refusal(method: str, what: str) -> Refused:
    return Refused(f"{method} cannot reinitialise every weight: {what}{_OTHERS.get(method, '')}")


def _left(
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    seed: int,
    drawn: Mapping[str, Tensor],
) -> list[str]:
    """Resets the modules; the names of tensors that still depend on their old content."""
    # Two resets over different contents agree exactly where the old content has no influence.
    first, second = (_reset(modules, tensors, fill, seed, drawn) for fill in (0, 1))
    return [
        name for name, a, b in zip(tensors, first, second, strict=True) if not torch.equal(a, b)
    ]


def is_mask(tensor: Tensor) -> bool:
    """Whether this is an additive mask.

    Such a mask holds floats in two or more dimensions, each 0 or infinite, and some infinite.
    """
    if not tensor.is_floating_point() or tensor.ndim < 2 or tensor.itemsize < 2:
        return False
    infinite = torch.isinf(tensor)
    return bool(infinite.any()) and bool((infinite | (tensor == 0)).all())


def infinite_constants(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers with infinite values, by name, such as attention masks.

    Statistics of normalisation layers never count.
    """
    found: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, NORMS):
            buffers = dict(module.named_buffers(prefix, recurse=False))
            found |= {
                k: v.clone()
                for k, v in buffers.items()
                if v.is_floating_point() and not _finite(v) and not torch.isnan(v).any()
            }
    return found


def unsound(model: nn.Module, constants: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters and buffers with NaN or infinite values.

    The given constants do not count where they are bit for bit as given.
    """
    tensors = chain(model.named_parameters(), model.named_buffers())
    wrong = {
        name: tensor
        for name, tensor in tensors
        if tensor.is_floating_point() and not _finite(tensor)
    }
    return [
        name
        for name, tensor in wrong.items()
        if name not in constants or not torch.equal(tensor.cpu(), constants[name].cpu())
    ]


def _finite(tensor: Tensor) -> bool:
    # torch.isfinite knows no 8-bit floats.
    return bool(torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).all())


def _drawn_buffers(prefix: str, module: nn.Module) -> list[tuple[str, Tensor]]:
    """The module's own buffers without its constants."""
    pruned = {
        f"{name.removesuffix('_orig')}_mask"
        for name, _ in module.named_parameters(prefix, recurse=False)
        if name.endswith("_orig")
    }
    return [
        (name, held)
        for name, held in saved_buffers(prefix, module).items()
        if not (is_mask(held) or _are_positions(held) or name in pruned or name.endswith(_TABLE))
    ]


def saved_buffers(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """The module's own buffers that its state dict holds, by name."""
    unsaved = module._non_persistent_buffers_set  # noqa: SLF001 (nothing public says it)
    named = module.named_buffers(prefix, recurse=False)
    return {name: value for name, value in named if name.rpartition(".")[2] not in unsaved}


def _are_positions(tensor: Tensor) -> bool:
    integers = (
        tensor.dtype in (torch.int32, torch.int64) and tensor.ndim > 0 and tensor.shape[-1] > 1
    )
    return integers and torch.equal(
        tensor, torch.arange(tensor.shape[-1], device=tensor.device).to(tensor).expand_as(tensor)
    )


def _at_own_scale(held: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Draws for the parameters and unit vectors among these tensors; see `reinitialise`."""
    found = {}
    for name, tensor in held.items():
        values = tensor.detach().double().cpu()
        generator = seeds.generator(seed, "own scale", name)
        noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
            varies = len(torch.unique(values)) > 1
            found[name] = (noise * values.std(correction=0)).to(tensor) if varies else values
        elif values.ndim == 1 and len(values) > 1 and abs(float(values.norm()) - 1) < _ROUNDING:
            found[name] = (noise / noise.norm()).to(tensor)
    return found


def _reset(
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    fill: int,
    seed: int,
    drawn: Mapping[str, Tensor],
) -> list[Tensor]:
    with torch.no_grad(), seeds.torch_state_kept():
        seeds.seed_torch(seed)
        for tensor in tensors.values():
            tensor.fill_(fill)
        for name, values in drawn.items():
            tensors[name].copy_(values)
        for module in reversed(list(modules.values())):
            reset = _reset_of(module)
            if reset is not None:
                reset()
    return [tensor.clone() for tensor in tensors.values()]


def _reset_of(module: nn.Module) -> Callable[[], object] | None:
    if isinstance(module, (nn.MultiheadAttention, nn.Transformer)):
        return module._reset_parameters  # noqa: SLF001 (torch names it so)
    reset = getattr(module, "reset_parameters", None)
    return reset if callable(reset) else None
