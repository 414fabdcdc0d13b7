"""Copies of modules that hold what `copy.deepcopy` and training stumble over.

Layers under torch's pruning, or its older weight and spectral norm, compute their weight in each
pass and keep it, with its graph, beside their parameters. Other models keep activations. Such
tensors cannot be copied until they are cut from their graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import first_line

_OWN = ("_parameters", "_buffers", "_modules")
"""Where a module keeps what its state dict holds."""


def duplicated(model: nn.Module) -> nn.Module:
    """A deep copy, in which tensors beside the parameters have no graph.

    Raises:
        EigenforgetError: Something in the model cannot be copied.
    """
    memo: dict[int, Any] = {
        id(leaf): leaf.detach().clone()
        for _, _, value in _further(model)
        for leaf in _with_graph(value)
    }
    try:
        made = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, AttributeError, ValueError, NotImplementedError) as error:
        raise EigenforgetError(
            f"the model cannot be copied: {first_line(error)}; take what cannot be copied off it"
        ) from None
    made.zero_grad(set_to_none=True)
    return made


def keeps_graphs(model: nn.Module) -> bool:
    """Whether a tensor beside the parameters hangs on the graph of a pass."""
    return any(_with_graph(value) for _, _, value in _further(model))


@contextmanager
def unchanged_by_passes(model: nn.Module) -> Iterator[None]:
    """What modules keep of a pass, and their training flags, are afterwards as before."""
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    containers = [
        (value, copy.copy(value)) for _, _, value in _further(model) if type(value) in (dict, list)
    ]
    try:
        yield
    finally:
        for module, values in attributes:
            for name in [key for key in vars(module) if key not in values]:
                delattr(module, name)
            vars(module).update(values)
        for value, content in containers:
            value.clear()
            value.update(content) if isinstance(value, dict) else value.extend(content)


def cut_graphs(model: nn.Module) -> nn.Module:
    """The model, which from now on cuts what it keeps of a pass from its graph after each pass."""
    model.register_forward_hook(_cut)
    _cut(model, None, None)
    return model


def uncut(model: nn.Module) -> None:
    """Takes back what `cut_graphs` did, on a copy too."""
    for module in model.modules():
        hooks = module._forward_hooks  # noqa: SLF001 (torch has no public list of hooks)
        for key in [key for key, hook in hooks.items() if hook is _cut]:
            del hooks[key]


def dense_gradients(model: nn.Module) -> tuple[str, ...]:
    """Turns sparse gradients of embeddings off, in place; most optimizers do not take them.

    Returns:
        The names of the modules that had them on.
    """
    found = sparse_embeddings(model)
    for name in found:
        model.get_submodule(name).sparse = False  # type: ignore[assignment]
    return found


def sparse_embeddings(model: nn.Module) -> tuple[str, ...]:
    """Names of the embeddings whose gradients are sparse."""
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse
    )


def is_changed_by_use(model: nn.Module) -> bool:
    """Whether passes or training need a copy, lest they change or fail on the given module.

    The same holds for tensors made in inference mode, tensors with a graph beside the parameters,
    embeddings that renormalise their weight in each pass, and sparse gradients. It also holds for
    modules compiled in place, whose code does not run hooks that are added later.
    """
    tensors = (*model.parameters(), *model.buffers())
    return (
        any(torch.is_inference(tensor) for tensor in tensors)
        or keeps_graphs(model)
        or bool(sparse_embeddings(model))
        or any(
            getattr(module, "_compiled_call_impl", None) is not None
            or getattr(module, "max_norm", None) is not None
            for module in model.modules()
        )
    )


def _further(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """What modules hold beside parameters, buffers, children and hooks."""
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in _OWN and not name.endswith("_hooks") and not callable(value):
                yield module, name, value


def _with_graph(value: Any) -> list[Tensor]:
    return [
        leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.grad_fn is not None
    ]


def _cut(model: nn.Module, _: Any, __: Any) -> None:
    for module, name, value in list(_further(model)):
        if _with_graph(value):
            setattr(module, name, tree_map_only(Tensor, Tensor.detach, value))
