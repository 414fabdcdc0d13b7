"""Weights on disk: written as safetensors, read from safetensors or from a PyTorch state dict; and
the digest of a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import secrets
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError, NotWritten
from eigenforget.core.text import listed
from eigenforget.models.initialisation import is_mask

_PICKLED = (".pt", ".pth")
DIGEST = "tensors"
"""Of the metadata: the digest of the weights that were saved, by which damage is found."""
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
    """Weights by name, on the CPU, and the metadata of a safetensors file ({} for other files)."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def check_target(path: str | Path) -> None:
    """Error: no checkpoint can be saved under this name."""
    if Path(path).suffix != ".safetensors":
        raise EigenforgetError(f"a checkpoint is saved as .safetensors, got {str(path)!r}")


def save(
    model: nn.Module, path: str | Path, metadata: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Write the state dict as safetensors: completely or not at all.

    Tied weights are stored under each of their names. Errors: the file exists and overwrite is not
    said, its name does not end in .safetensors, non-finite weights (but for a mask of 0 and ±∞ in a
    buffer), entries that are no tensors, metadata that are no strings, the file cannot be written.
    """
    target = Path(path)
    check_target(target)
    if target.exists() and not overwrite:
        raise EigenforgetError(f"{target} exists; say overwrite to replace it")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise EigenforgetError(f"metadata {key!r} must be a string, got {type(value).__name__}")
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tensors = {
        k: _storable(str(target), k, value, may_mask=k not in parameters)
        for k, value in model.state_dict().items()
    }
    if not tensors:
        raise EigenforgetError(f"{target}: the model has no weights to save")
    # In the same folder, because a rename is atomic within one file system only.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        save_file(tensors, temporary, {**metadata, DIGEST: digest_of(tensors)})
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except (OSError, safetensors.SafetensorError) as error:
        raise NotWritten(f"{target}: cannot be written: {_first_line(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: str | Path) -> Checkpoint:
    """The weights in a .safetensors file, or in a .pt or .pth file that holds a state dict.

    The state dict may stand under "state_dict" or "model". Pickles are read with weights_only, so
    that loading runs no code; a "module." that begins every name is taken off them. Errors, which
    name the file: missing, damaged (also by a digest of the weights, which `save` writes), Python
    objects in it, no tensors, non-finite weights. A mask of 0 and ±∞ passes; `load_into` sees
    whether it is one.
    """
    source = Path(path)
    if source.suffix not in (".safetensors", *_PICKLED):
        raise EigenforgetError(f"{source}: a checkpoint ends in .safetensors, .pt or .pth")
    if not source.is_file():
        raise EigenforgetError(f"{source}: there is no such file")
    tensors, metadata = (
        _read_pickled(source) if source.suffix in _PICKLED else _read_safetensors(source)
    )
    if not tensors:
        raise EigenforgetError(f"{source}: the checkpoint is empty")
    stored = {name: _storable(str(source), name, value) for name, value in tensors.items()}
    told = metadata.pop(DIGEST, None)
    if told is not None and told != digest_of(stored):
        raise EigenforgetError(
            f"{source}: the checkpoint is damaged: its weights are not those that were saved"
        )
    return Checkpoint(stored, metadata)


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into the model, or leave it untouched and say in one line what does not fit.

    Names and shapes must be equal; the model's number type must hold every value of the
    checkpoint's exactly; what is infinite must be a buffer of the model.
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


def digest(model: nn.Module) -> str:
    """SHA-256 ("sha256:…") over names, types, shapes and bytes of all parameters and buffers, in
    the order of their names.

    It depends on neither device, memory layout nor order of registration. A tied weight counts
    under each of its names.
    """
    return digest_of(dict(named_tensors(model)))


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The digest of these tensors: that of a model whose parameters and buffers they are."""
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


def _storable(file: str, name: str, value: Any, *, may_mask: bool = True) -> Tensor:
    """A contiguous clone on the CPU, or an error that names file and entry. may_mask: it may be a
    mask with infinite values.
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
            return {name: opened.get_tensor(name) for name in opened.keys()}, dict(
                opened.metadata() or {}
            )
    except (OSError, safetensors.SafetensorError) as error:
        raise EigenforgetError(
            f"{path}: not a readable safetensors file: {_first_line(error)}"
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


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
