"""Weights on disk, as safetensors or a PyTorch state dict, and the digest of a model."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, overload

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError, NotWritten
from eigenforget.core.text import first_line, listed
from eigenforget.models.initialisation import is_mask
from eigenforget.record import RecordError, WriteError, recover_near, value_digest
from eigenforget.record.files import atomic_file

_PICKLED = (".pt", ".pth")
DIGEST = "eigenforget_digest"
"""Of the metadata: the digest of weights and metadata as saved, by which damage is found."""
_OLD_DIGEST = "tensors"
"""In older files: the digest of the weights alone."""
_WRAPPERS = ("state_dict", "model")
_CONVERT = "where it was made, save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    AssertionError,
    AttributeError,
    TypeError,
    pickle.UnpicklingError,
    struct.error,
)
"""What torch.load raises for damaged files of its several formats."""


class Checkpoint(NamedTuple):
    """Weights by name, on the CPU, and the metadata of a safetensors file ({} for other files).

    `sealed` says whether both are known to be as they were saved.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sealed: bool = False


def check_target(path: str | Path) -> None:
    """Check that a checkpoint can have this name.

    Raises:
        EigenforgetError: The name does not end in .safetensors.
    """
    if _path(path).suffix != ".safetensors":
        raise EigenforgetError(f"a checkpoint is saved as .safetensors, got {str(path)!r}")


def save_checkpoint(
    model: nn.Module,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the state dict as safetensors: completely or not at all.

    Tied weights are stored under each of their names.

    Args:
        model: The model to save.
        path: A name that ends in .safetensors; the folders above it are made.
        metadata: Strings that the file holds beside the weights.
        overwrite: Whether a file of this name is replaced.

    Returns:
        The path.

    Raises:
        EigenforgetError: The file exists or has another name, weights are not finite (but for a
            mask of 0 and ±∞ in a buffer), entries are no tensors, or metadata no strings.
        NotWritten: The file cannot be written.
    """
    if not isinstance(model, nn.Module):
        raise EigenforgetError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    target, about = _path(path), dict(metadata or {})
    check_target(target)
    for key, value in about.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise EigenforgetError(f"metadata {key!r} must be a string, got {type(value).__name__}")
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tensors = {
        name: _storable(str(target), name, value, may_mask=name not in parameters)
        for name, value in model.state_dict().items()
    }
    if not tensors:
        raise EigenforgetError(f"{target}: the model has no weights to save")
    try:
        with atomic_file(target, overwrite=overwrite) as draft:
            digest = _digest(tensors_digest(tensors), about)
            save_file(tensors, draft, {**about, DIGEST: digest})
    except WriteError as error:
        raise NotWritten(str(error)) from None
    except safetensors.SafetensorError as error:
        raise NotWritten(f"{target}: cannot be written: {first_line(error)}") from None
    except RecordError as error:
        raise EigenforgetError(str(error)) from None
    return target


@overload
def load_checkpoint(path: str | Path) -> Checkpoint: ...
@overload
def load_checkpoint(path: str | Path, model: nn.Module) -> nn.Module: ...
def load_checkpoint(path: str | Path, model: nn.Module | None = None) -> Checkpoint | nn.Module:
    """Read the weights in a .safetensors file, or in a .pt or .pth file that holds a state dict.

    The state dict may stand under "state_dict" or "model". Pickles are read with weights_only, so
    that loading runs no code. A "module." that begins every name is taken off them. A mask of 0 and
    ±∞ passes; `load_into` sees whether it is one.

    Args:
        path: The file.
        model: A model to copy the weights into; see `load_into`.

    Returns:
        The weights with the file's metadata, or the given model with these weights.

    Raises:
        EigenforgetError: The file is missing, damaged (also by a digest of the weights, which
            `save_checkpoint` writes), holds Python objects or no tensors, or weights that are not
            finite; or the weights do not fit the model.
    """
    if model is not None and not isinstance(model, nn.Module):
        raise EigenforgetError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    source = _path(path)
    if source.suffix not in (".safetensors", *_PICKLED):
        raise EigenforgetError(f"{source}: a checkpoint ends in .safetensors, .pt or .pth")
    try:
        recover_near(source)
    except RecordError as error:
        raise EigenforgetError(str(error)) from None
    if not source.is_file():
        raise EigenforgetError(f"{source}: there is no such file")
    read = _read_pickled if source.suffix in _PICKLED else _read_safetensors
    tensors, metadata = read(source)
    if not tensors:
        raise EigenforgetError(f"{source}: the checkpoint is empty")
    stored = {name: _storable(str(source), name, value) for name, value in tensors.items()}
    found = _checked(source, stored, metadata)
    if model is None:
        return found
    load_into(model, found)
    return model


def _checked(source: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Checkpoint:
    """The checkpoint, if weights and metadata have the digest that was saved with them."""
    told, old = metadata.pop(DIGEST, None), metadata.pop(_OLD_DIGEST, None)
    if told is None and old is None and "eigenforget" not in metadata:
        return Checkpoint(tensors, metadata)  # of another tool
    weights = tensors_digest(tensors)
    if told is None and weights != old:
        raise EigenforgetError(
            f"{source}: the checkpoint is damaged: its weights are not those that were saved"
        )
    if told is not None and told != _digest(weights, metadata):
        raise EigenforgetError(
            f"{source}: the checkpoint is damaged: its weights or its metadata are not those that "
            "were saved"
        )
    return Checkpoint(tensors, metadata, sealed=told is not None)


def _digest(weights: str, metadata: Mapping[str, str]) -> str:
    """The digest of a checkpoint whose weights have this digest."""
    about = {key: value for key, value in metadata.items() if key not in (DIGEST, _OLD_DIGEST)}
    return value_digest({"weights": weights, "metadata": about})


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into the model, completely or not at all.

    Raises:
        EigenforgetError: Names or shapes differ, the model's number type does not hold every value
            exactly, or something infinite is no buffer of the model. The message lists what.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    given = checkpoint.tensors
    both = [(name, given[name], own[name]) for name in own if name in given]
    problems = {
        "missing": [name for name in own if name not in given],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [
            f"{name} (checkpoint {list(theirs.shape)}, model {list(ours.shape)})"
            for name, theirs, ours in both
            if theirs.shape != ours.shape
        ],
        "of another type": [
            f"{name} (checkpoint {theirs.dtype}, model {ours.dtype})"
            for name, theirs, ours in both
            if not _holds(ours.dtype, theirs.dtype)
        ],
        "infinite": [name for name, theirs, _ in both if name in parameters and is_mask(theirs)],
        "tied in the model but different": _torn(own, given),
    }
    parts = [
        f"{len(names)} {problem}: {listed(names)}" for problem, names in problems.items() if names
    ]
    if parts:
        raise EigenforgetError(f"the checkpoint does not fit the model: {'; '.join(parts)}")
    model.load_state_dict(given)


def model_digest(model: nn.Module) -> str:
    """SHA-256 ("sha256:…") over names, types, shapes and bytes of all parameters and buffers.

    It depends on neither device, memory layout nor order of registration. A tied weight counts
    under each of its names.
    """
    return tensors_digest(dict(named_tensors(model)))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """The `model_digest` of a model whose parameters and buffers these tensors are, by name."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        total.update(_raw(tensor))
    return f"sha256:{total.hexdigest()}"


def named_tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """All parameters, then all buffers, under each of their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _path(path: str | Path) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise EigenforgetError(f"a checkpoint is named by a path, got {type(path).__name__}")
    return Path(path)


def _storable(file: str, name: str, value: Any, *, may_mask: bool = True) -> Tensor:
    """A contiguous clone on the CPU, or an error that names file and entry.

    Args:
        file: For the message.
        name: Of the entry.
        value: The entry.
        may_mask: Whether it may be a mask with infinite values.
    """
    if (
        not isinstance(value, Tensor)
        or value.layout is not torch.strided
        or value.is_quantized
        or value.is_meta
    ):
        shown = (
            f"{value.dtype} {value.layout}" if isinstance(value, Tensor) else type(value).__name__
        )
        raise EigenforgetError(f"{file}: {name} is no plain tensor of weights, got {shown}")
    tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    # torch.isfinite knows no 8-bit floats.
    checked = tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor
    if not torch.isfinite(checked).all() and not (may_mask and is_mask(tensor)):
        raise EigenforgetError(f"{file}: {name} has weights that are not finite (NaN or infinite)")
    return tensor


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise EigenforgetError(
            f"{path}: not a readable safetensors file: {first_line(error)}"
        ) from None


def _read_pickled(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if "not an allowed global" in str(error) or "TorchScript" in str(error):
            raise EigenforgetError(
                f"{path}: holds Python objects, which could run code; {_CONVERT}"
            ) from None
        raise EigenforgetError(
            f"{path}: damaged, or not written by torch.save as weights alone; {_CONVERT}"
        ) from None
    wrapped = [
        key
        for key in _WRAPPERS
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping)
    ]
    if len(wrapped) > 1:
        raise EigenforgetError(
            f"{path}: has weights under both {' and '.join(wrapped)}; save the ones you mean alone"
        )
    state = loaded[wrapped[0]] if wrapped else loaded
    if not isinstance(state, Mapping):
        raise EigenforgetError(
            f"{path}: holds a {type(state).__name__}, not a state dict; {_CONVERT}"
        )
    names = [str(name) for name in state]
    # torch.nn.DataParallel puts this before every name.
    cut = "module." if all(name.startswith("module.") for name in names) else ""
    return {
        name.removeprefix(cut): value for name, value in zip(names, state.values(), strict=True)
    }, {}


def _raw(tensor: Tensor) -> memoryview:
    """The bytes of the values in the order of their indices."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _holds(target: torch.dtype, given: torch.dtype) -> bool:
    # PyTorch defines no promotion of 8-bit floats; other one-byte types are not worth an exception.
    if target == given or 1 in (target.itemsize, given.itemsize):
        return target == given
    return (
        target.is_floating_point == given.is_floating_point
        and torch.promote_types(target, given) == target
    )


def _torn(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Names that are one weight in the model and not equal to each other in the checkpoint."""
    first: dict[tuple[int, torch.Size], str] = {}
    torn = []
    for name, tensor in own.items():
        if name in given and tensor.numel():
            twin = first.setdefault((tensor.data_ptr(), tensor.shape), name)
            if _raw(given[twin]) != _raw(given[name]):
                torn.append(f"{twin} and {name}")
    return torn
