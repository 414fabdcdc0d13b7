"""Half precision: work is done in float32 on a copy, which then gets the given types back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.models.checkpoint import named_tensors

HALF_TYPES = (torch.float16, torch.bfloat16)
_WEIGHTS = (*HALF_TYPES, torch.float32, torch.float64)
_NO_WEIGHTS = (torch.bool, torch.int16, torch.int32, torch.int64)
"""What a parameter may be that holds positions or counts."""


def types_of(tensors: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    """The types of a model's or a checkpoint's tensors, by name."""
    return {name: tensor.dtype for name, tensor in tensors.items()}


def first_half(types: Mapping[str, torch.dtype]) -> str | None:
    """The name of the first tensor in half precision; None where there is none."""
    return next((name for name, dtype in types.items() if dtype in HALF_TYPES), None)


def check_types(model: nn.Module) -> None:
    """Check that no weights are quantised, complex or in 8 bits.

    Raises:
        EigenforgetError: Some are; the message names the first tensor and its type.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in named_tensors(model):
        wrong = (
            tensor.dtype not in (*_WEIGHTS, *_NO_WEIGHTS)
            if name in parameters
            else tensor.is_floating_point() and tensor.itemsize < 2
        )
        if wrong or tensor.is_quantized:
            raise EigenforgetError(_unfit(name, tensor.dtype))
    # Quantised layers of torch have no parameters: their weights are packed into tuples of the
    # state dict.
    for name, entry in model.state_dict().items():
        for leaf in tree_leaves(entry):
            if isinstance(leaf, Tensor) and leaf.is_quantized:
                raise EigenforgetError(_unfit(name, leaf.dtype))


def widened(model: nn.Module) -> nn.Module:
    """The model itself, or a copy with float32 in the place of float16 and bfloat16.

    What any module of the copy gets as float16 or bfloat16, inputs of the data included, is turned
    to float32 first, since a model of several types casts between its parts. All other types stay.
    `narrowed` is the way back.
    """
    if first_half(types_of(dict(named_tensors(model)))) is None:
        return model
    wide = copy.deepcopy(model)
    _cast(
        wide,
        {
            id(tensor): torch.float32
            for _, tensor in named_tensors(wide)
            if tensor.dtype in HALF_TYPES
        },
    )
    for module in wide.modules():
        module.register_forward_pre_hook(_widen_inputs, with_kwargs=True)
    return wide


def is_widened(model: nn.Module) -> bool:
    """Whether this is a copy that `widened` made, or a copy of one."""
    return any(_widening(module) for module in model.modules())


def narrowed(model: nn.Module, types: Mapping[str, torch.dtype]) -> nn.Module:
    """Give a model, in place, the half-precision types back that it had before `widened`.

    A tensor that `types` does not name takes the type of those beside it in its module. What a
    training moved by less than the narrow type can show is back where it was.

    Args:
        model: A widened model or a copy of one, trained or not.
        types: The types by name, see `types_of`.

    Raises:
        Diverged: A value is too large for its type.
    """
    if first_half(types) is None:
        return model
    wanted: dict[int, torch.dtype] = {}
    for name, tensor in named_tensors(model):
        dtype = types.get(name) or _beside(name, types)
        if tensor.is_floating_point() and dtype in HALF_TYPES:
            _check_holds(dtype, name, tensor)
            wanted[id(tensor)] = dtype
    _cast(model, wanted)
    for module in model.modules():
        for key in _widening(module):
            # A copy has no handles of its hooks.
            del module._forward_pre_hooks[key]  # noqa: SLF001
            del module._forward_pre_hooks_with_kwargs[key]  # noqa: SLF001
    return model


def retyped(model: nn.Module, types: Mapping[str, torch.dtype]) -> nn.Module:
    """Give a model, in place, the types back that it had before a training in 64-true or 16-true.

    A tensor that `types` does not name takes the type of those beside it in its module, or float32.

    Args:
        model: A trained model or one made from it.
        types: The types by name, see `types_of`.

    Raises:
        Diverged: A value is too large for its type.
    """
    wanted: dict[int, torch.dtype] = {}
    for name, tensor in named_tensors(model):
        if tensor.is_floating_point():
            dtype = types.get(name) or _beside(name, types) or torch.float32
            _check_holds(dtype, name, tensor)
            wanted[id(tensor)] = dtype
    _cast(model, wanted)
    return model


def _check_holds(dtype: torch.dtype, name: str, tensor: Tensor) -> None:
    """Checks that what is finite in a tensor is finite in this type, too."""
    if (torch.isfinite(tensor) & ~torch.isfinite(tensor.to(dtype))).any():
        raise Diverged(f"{name} holds values that are too large for {dtype}")


def _cast(model: nn.Module, wanted: Mapping[int, torch.dtype]) -> None:
    """Turn the tensors of these identities, in place; what was one tensor stays one."""
    done: dict[
        int, tuple[Tensor, Tensor]
    ] = {}  # with the tensors, lest an identity be given out again

    def cast(tensor: Tensor) -> Tensor:
        if id(tensor) not in done:
            done[id(tensor)] = tensor, tensor.to(wanted.get(id(tensor), tensor.dtype))
        return done[id(tensor)][1]

    model.zero_grad(set_to_none=True)
    # What .float() and .half() are made of: recurrent layers keep a further list of their weights,
    # which it renews.
    model._apply(cast)  # type: ignore[no-untyped-call]  # noqa: SLF001 (no public way)


def _widening(module: nn.Module) -> list[int]:
    """The keys of the hooks that widen this module's inputs."""
    hooks = module._forward_pre_hooks  # noqa: SLF001 (torch has no public list of hooks)
    return [key for key, hook in hooks.items() if hook is _widen_inputs]


def _widen_inputs(_: nn.Module, args: Any, kwargs: Any) -> Any:
    return tree_map(_wide, args), tree_map(_wide, kwargs)


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF_TYPES else value


def _beside(name: str, types: Mapping[str, torch.dtype]) -> torch.dtype | None:
    owner = name.rpartition(".")[0]
    return next(
        (
            dtype
            for other, dtype in types.items()
            if other.rpartition(".")[0] == owner and dtype in _WEIGHTS
        ),
        None,
    )


def _unfit(name: str, dtype: torch.dtype) -> str:
    hint = "" if dtype.is_complex else "; of a quantised model give the one that it was made from"
    return f"{name} is {dtype}, and weights must be float16, bfloat16, float32 or float64{hint}"


def in_type_of(model: nn.Module, inputs: Any) -> Any:
    """The inputs in the type of the weights, where all of these have one.

    A training in half or double precision holds such a model, and is asked for its outputs in
    between.
    """
    types = (p.dtype for p in model.parameters() if p.is_floating_point())
    own = next(types, None)
    known = isinstance(inputs, Tensor) and inputs.dtype == own
    if own is None or known or any(other != own for other in types):
        return inputs
    return tree_map_only(Tensor, lambda x: x.to(own) if x.is_floating_point() else x, inputs)
