"""What every door does with a user's model before any work, in one function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from eigenforget.core import notices, seeds
from eigenforget.core.errors import EigenforgetError, naming
from eigenforget.core.text import first_line
from eigenforget.data.sources import Source
from eigenforget.data.sources.reading import not_finite, one_batch
from eigenforget.models.checkpoint import named_tensors
from eigenforget.models.copies import (
    cut_graphs,
    dense_gradients,
    duplicated,
    is_changed_by_use,
    keeps_graphs,
    unchanged_by_passes,
    uncut,
)
from eigenforget.models.features import called_with, note_head, trace_heads
from eigenforget.models.outputs import checked_logits
from eigenforget.models.precision import is_widened, narrowed, types_of, widened
from eigenforget.models.wrappers import device_of, unwrapped

MISFITS = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError)
"""What modules raise for inputs that they are not made for."""
_LOOKED_AT = 8

_P = ParamSpec("_P")
_R = TypeVar("_R")


def door(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that users call: the same inside of torch.no_grad() and inference mode as outside.

    The warnings that it raises stand in the records that it makes.
    """

    @functools.wraps(function)
    def opened(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.inference_mode(False), torch.enable_grad(), notices.collected():
            return function(*args, **kwargs)

    return opened


@dataclass(frozen=True)
class PreparedModel:
    """A user's model in the form in which it is trained and measured.

    Attributes:
        model: The plain module: the given one, or a copy where work would change that one.
        num_classes: The number of its logits.
        types: The types that the tensors of the given model have.
        sparse: Names of the embeddings whose gradients were sparse.
    """

    model: nn.Module
    num_classes: int
    types: Mapping[str, torch.dtype]
    sparse: tuple[str, ...] = ()

    def restored(self, result: nn.Module) -> nn.Module:
        """A module that was made from `model`, in the form of the given one, in place."""
        uncut(result)
        modules = dict(result.named_modules())
        for name in self.sparse:
            if hasattr(modules.get(name), "sparse"):
                modules[name].sparse = True
        return narrowed(result, self.types)


def looks(**sources: Source | None) -> dict[str, Any]:
    """The inputs of a few real samples of each source, by name."""
    return {
        name: one_batch(source, _LOOKED_AT).inputs
        for name, source in sources.items()
        if source is not None
    }


def check_inputs(model: nn.Module, **sources: Source | None) -> None:
    """Checks that the model has an answer where inputs hold NaN or infinite values.

    All samples are looked at that are in memory, and a few of others. A model that is made for
    missing values gives numbers there.

    Args:
        model: The model.
        **sources: The samples by name.

    Raises:
        EigenforgetError: It gives NaN; the message names the first such sample.
    """
    for name, source in sources.items():
        bad = np.zeros(0, dtype=np.int64) if source is None else not_finite(source, _LOOKED_AT)
        if source is None or not len(bad):
            continue
        inputs = next(source.subset(bad[:1]).batches(1)).inputs
        with unchanged_by_passes(model):
            logits = _passed(model, inputs, f"on the {name} data", training=False)
        if bool(logits.isnan().any()):
            more = f" (and of {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise EigenforgetError(
                f"{name}: the inputs of sample {bad[0]}{more} hold NaN or infinite values, and the "
                "model gives NaN for it; repair these samples or leave them out"
            )


def prepare(
    model: nn.Module,
    samples: Mapping[str, Any],
    *,
    trains: bool = False,
    what: str = "",
    hint: str = "",
) -> PreparedModel:
    """Makes a user's model ready for work, by passes of a few real samples.

    The model itself stays as it is. Wrappers of other libraries are taken off. Where work would
    change the module or fail on it, it is copied (see `copies.is_changed_by_use`); half precision
    becomes float32 (see `precision.widened`). Where the head is not the last nn.Linear, the answer
    is a copy that bears its name in the attribute `eigenforget_head` (see `features.note_head`).

    Args:
        model: Any classifier.
        samples: Inputs of a few samples of each set, by its name; the head is found with the first.
        trains: Whether the model will be trained, which one more pass tries on a copy.
        what: The name of the model, with which messages begin; "" for none.
        hint: What a user may do about a model that cannot be trained, for the message.

    Raises:
        EigenforgetError: The model cannot be used, does not take the inputs, gives no logits, or
            cannot be trained; the message names the cure.
    """
    with naming(what):
        return _prepared(model, samples, trains=trains, hint=hint)


def _prepared(
    model: nn.Module, samples: Mapping[str, Any], *, trains: bool, hint: str
) -> PreparedModel:
    plain = unwrapped(model)
    types = types_of(dict(named_tensors(plain)))
    own = widened(duplicated(plain) if is_changed_by_use(plain) else plain)
    sparse = dense_gradients(own)
    with unchanged_by_passes(own):
        for name, inputs in samples.items():
            _passed(own, inputs, f"on the {name} data", training=False)
        keeps = keeps_graphs(own)
    if keeps:
        own = cut_graphs(duplicated(own))
    first = next(iter(samples.values()))
    if trains:
        _try_training(own, first, hint)
    with unchanged_by_passes(own):
        traced = trace_heads(own, _placed(own, first))
    note = traced.note(own)
    if note is not None:
        own = duplicated(own) if own is plain else own
        note_head(own, note)
    return PreparedModel(own, traced.num_classes, types, sparse)


def _passed(model: nn.Module, inputs: Any, where: str, *, training: bool) -> Tensor:
    """The logits of a few samples, checked."""
    given = _placed(model, inputs)
    try:
        model.train(training)
        with torch.enable_grad(), seeds.torch_state_kept(device_of(model)):
            output = called_with(model, given)
    except MISFITS as error:
        if isinstance(error, EigenforgetError):
            raise
        reason = _with_cure(first_line(error), error, model, inputs)
        if is_widened(model):
            where = "with its float16 or bfloat16 weights in float32"
        raise EigenforgetError(f"the model does not run {where}: {reason}") from error
    return checked_logits(output, len(tree_leaves(given)[0]))


def _with_cure(reason: str, error: Exception, model: nn.Module, inputs: Any) -> str:
    """The reason why a pass failed, with what a user can do about it, where that is known."""
    if isinstance(inputs, Mapping) and "keyword" in reason:
        largest = max(inputs, key=lambda name: inputs[name].numel())
        alone = f"Samples(data, inputs={largest!r}) gives it one without a name"
        several = "Samples(data, inputs=(…)) names those that it takes, and "
        return f"{reason}; {several * (len(inputs) > 1)}{alone}"
    if isinstance(error, NotImplementedError):
        if "train()" in reason or "eval()" in reason:  # as of an exported program
            return f"{reason}; give the plain nn.Module that it was made from"
        if '"forward"' in reason:  # as of a LightningModule that only trains
            inner = next((name for name, _ in model.named_children()), "net")
            return f"{reason}; give the network that it holds, such as model.{inner}"
    if isinstance(inputs, list) and "must be Tensor" in reason:
        return f"{reason}; give tensors (of Hugging Face's datasets: with_format('torch'))"
    return _unfit_types(model, inputs) or reason


def _try_training(model: nn.Module, inputs: Any, hint: str) -> None:
    """Checks on a copy that a pass in training mode gives logits with gradients."""
    if len(tree_leaves(inputs)[0]) < 2:  # batch normalisation needs two rows
        return
    try:
        tried = duplicated(model)
        logits = _passed(tried, inputs, "in training mode", training=True)
    except EigenforgetError as error:
        line = str(error)
        known = "training mode" in line or "copied" in line
        raise EigenforgetError(f"{'' if known else 'in training mode: '}{line}{hint}") from None
    if not logits.requires_grad and any(p.requires_grad for p in tried.parameters()):
        raise EigenforgetError(
            "the model's outputs have no gradients, so that nothing could be trained; take "
            f"torch.no_grad(), detach() and the like out of its forward pass{hint}"
        )


def _placed(model: nn.Module, inputs: Any) -> Any:
    """The inputs on the model's device, in their own types."""
    device = device_of(model)
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), inputs)


def _unfit_types(model: nn.Module, inputs: Any) -> str:
    """What is wrong with the types of the inputs, where these may be why a pass fails; else ""."""
    weights = {p.dtype for p in model.parameters() if p.is_floating_point()}
    named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
    embeds = any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in model.modules())
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or tensor.dtype in weights or len(weights) != 1:
            continue
        (weight,) = weights
        if tensor.is_floating_point():
            hint = ""
            if weight is torch.float64 and tensor.dtype is torch.float32:
                hint = ", as a tensor, since numpy's float64 is read as float32"
            return (
                f"{name} are {tensor.dtype} and its weights {weight}; give {name}.to({weight})"
                f"{hint}, or the model in the type of the data"
            )
        if not embeds and not tensor.is_complex():
            return (
                f"{name} are {tensor.dtype} and its weights {weight}; give {name}.to({weight}), "
                "scaled as they were in training (pixels often / 255)"
            )
    return ""
