"""Weights on disk, as safetensors or a PyTorch state dict, and the digest of a model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, overload

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError, NotWritten
from eigenforget.core.text import first_line, listed
from eigenforget.models.initialisation import is_mask
from eigenforget.models.renaming import COUNTER, nearest_reason, renaming, wrapper_prefix
from eigenforget.models.state_files import StateForm, read_state, weights_file, write_like
from eigenforget.record import RecordError, WriteError, value_digest
from eigenforget.record.files import atomic_file

DIGEST = "eigenforget_digest"
"""Of the metadata: the digest of weights and metadata as saved, by which damage is found."""
_OLD_DIGEST = "tensors"
"""In older files: the digest of the weights alone."""


class Checkpoint(NamedTuple):
    """What a file holds of a model.

    Attributes:
        tensors: Weights by name, on the CPU.
        metadata: Strings that the file holds beside them.
        sealed: Whether both are known to be as they were saved.
        form: Where they lie in the file, and what was taken off their names.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sealed: bool = False
    form: StateForm = StateForm()

    def __repr__(self) -> str:
        held = f"{len(self.tensors)} tensors, metadata={self.metadata}, sealed={self.sealed}"
        return f"Checkpoint({held}, form={self.form})"


def check_target(path: str | Path, like: str | Path | None = None) -> None:
    """Check that a checkpoint can have this name.

    Args:
        path: The name.
        like: The file in whose form it is to be saved.

    Raises:
        EigenforgetError: The name does not end in .safetensors, or as that of `like` does.
    """
    wanted = ".safetensors" if like is None else weights_file(_path(like)).suffix
    if wanted == ".json":
        wanted = ".safetensors"  # what was in pieces becomes one file
    if _path(path).suffix != wanted:
        hint = (
            "; like=FILE (--like FILE) saves it in the form of that file"
            if like is None
            else f" with like={like} (--like); give it that ending, or leave that out"
        )
        raise EigenforgetError(f"a checkpoint is saved as {wanted}, got {str(path)!r}{hint}")


def save_checkpoint(
    model: nn.Module,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
    like: str | Path | None = None,
    weights: str = "",
) -> Path:
    """Write the state dict: completely or not at all.

    It becomes safetensors, in which tied weights are stored under each of their names. With `like`,
    it becomes a file of the same kind, with the weights under the same keys, names and types. Of
    what lies beside them there, the state of the training, scores and all that has tensors is left
    out, with a warning: it is the original's.

    Args:
        model: The model to save.
        path: A name that ends in .safetensors, or as that of `like` does; the folders above it are
            made.
        metadata: Strings that the file holds beside the weights.
        overwrite: Whether a file of this name is replaced.
        like: A file that the model was loaded from.
        weights: The key of the weights in it, as for `load_checkpoint`.

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
    check_target(target, like)
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
            if like is None:
                save_file(tensors, draft, _sealed(tensors, about))
            else:
                form = weights_file(_path(like))
                write_like(
                    form, path=draft, tensors=tensors, about=about, weights=weights, seal=_sealed
                )
    except WriteError as error:
        raise NotWritten(str(error)) from None
    except safetensors.SafetensorError as error:
        raise NotWritten(f"{target}: cannot be written: {first_line(error)}") from None
    except RecordError as error:
        raise EigenforgetError(str(error)) from None
    return target


@overload
def load_checkpoint(path: str | Path, *, weights: str = ...) -> Checkpoint: ...
@overload
def load_checkpoint(path: str | Path, model: nn.Module, *, weights: str = ...) -> nn.Module: ...
def load_checkpoint(
    path: str | Path, model: nn.Module | None = None, *, weights: str = ""
) -> Checkpoint | nn.Module:
    """Read the weights in a file as PyTorch, Lightning, timm or Hugging Face save them.

    That is a .safetensors file, or a .pt, .pth, .ckpt, .bin or .pth.tar file that holds a state
    dict, alone or under keys such as "state_dict" beside other entries. A folder or an .index.json
    of Hugging Face stands for the files in it. Pickles are read with weights_only, so that loading
    runs no code. Prefixes of wrappers ("module.", "_orig_mod.", "_module.") that begin every name
    are taken off; `load_into` finds others. A mask of 0 and ±∞ passes; `load_into` sees whether it
    is one.

    Args:
        path: The file or folder.
        model: A model to copy the weights into; see `load_into`.
        weights: The key of the weights that are meant, where a file holds several, such as a moving
            average beside them.

    Returns:
        The weights with the file's metadata, or the given model with these weights.

    Raises:
        EigenforgetError: The file is missing or damaged (by the digest that `save_checkpoint`
            writes, too); it holds Python objects, no tensors, several sets of them, or weights that
            are not finite; or the weights do not fit the model.
    """
    if model is not None and not isinstance(model, nn.Module):
        raise EigenforgetError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    source = weights_file(_path(path))
    state, metadata, way = read_state(source, weights)[:3]
    if not state:
        raise EigenforgetError(f"{source}: the checkpoint is empty")
    stored = {str(n): _storable(str(source), str(n), value) for n, value in state.items()}
    found = _checked(source, stored, metadata)
    # Names in a file of ours are the model's own.
    cut = "" if DIGEST in metadata or _OLD_DIGEST in metadata else wrapper_prefix(stored)
    tensors = {name.removeprefix(cut): value for name, value in found.tensors.items()}
    found = found._replace(tensors=tensors, form=StateForm(way, cut))
    if model is None:
        return found
    load_into(model, found)
    return model


def _checked(source: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Checkpoint:
    """The checkpoint, if weights and metadata have the digest that was saved with them."""
    told, old = metadata.get(DIGEST), metadata.get(_OLD_DIGEST)
    if told is None and old is None and "eigenforget" not in metadata:
        return Checkpoint(tensors, metadata)  # of another tool
    weights, about = tensors_digest(tensors), _without_digests(metadata)
    if told is None and weights != old:
        raise EigenforgetError(
            f"{source}: the checkpoint is damaged: its weights are not those that were saved"
        )
    if told is not None and told != _digest(weights, about):
        raise EigenforgetError(
            f"{source}: the checkpoint is damaged: its weights or its metadata are not those that "
            "were saved"
        )
    return Checkpoint(tensors, about, sealed=told is not None)


def _sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the digest of both."""
    about = _without_digests(metadata)
    return {**about, DIGEST: _digest(tensors_digest(tensors), about)}


def _digest(weights: str, metadata: Mapping[str, str]) -> str:
    """The digest of a checkpoint whose weights have this digest."""
    return value_digest({"weights": weights, "metadata": dict(metadata)})


def _without_digests(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key not in (DIGEST, _OLD_DIGEST)}


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into the model, completely or not at all.

    Weights under another prefix than the model's names have are found, see `fitted`. float64 is
    rounded where the model is in float32, with a warning.

    Raises:
        EigenforgetError: Names or shapes differ, the model's number type does not hold every value
            exactly, or something infinite is no buffer of the model. The message lists what, and
            the likely reason.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    found = fitted(model, checkpoint)
    if found.form.line:
        notices.inform(f"checkpoint: {found.form.line}")
    own, given = _state(model), found.tensors
    both = [(name, given[name], own[name]) for name in own if name in given]
    problems = {
        "missing": [n for n in own if n not in given and not n.endswith(COUNTER)],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [
            f"{name} (checkpoint {list(theirs.shape)}, model {list(ours.shape)})"
            for name, theirs, ours in both
            if theirs.shape != ours.shape
        ],
        "of another type": [
            f"{name} (checkpoint {theirs.dtype}, model {ours.dtype})"
            for name, theirs, ours in both
            if not _holds(ours.dtype, theirs.dtype) and not _loses_digits(ours.dtype, theirs.dtype)
        ],
        "infinite": [name for name, theirs, _ in both if name in parameters and is_mask(theirs)],
        "tied in the model but different": _torn(own, given),
    }
    parts = [
        f"{len(names)} {problem}: {listed(names)}" for problem, names in problems.items() if names
    ]
    if parts:
        reason = nearest_reason(own, given)
        raise EigenforgetError(
            f"the checkpoint does not fit the model: {'; '.join(parts)}"
            + (f"; {reason}" if reason else "")
        )
    rounded = [name for name, theirs, ours in both if _loses_digits(ours.dtype, theirs.dtype)]
    if rounded:
        notices.warn(
            f"{len(rounded)} tensors of the checkpoint are in float64 and are rounded to the "
            "model's float32; model.double() keeps them"
        )
    model.load_state_dict({**own, **given})


def fitted(model: nn.Module, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint under the names of the model, where a prefix is all that differs.

    Entries beside the model's part, such as weights of a loss, are left out with a warning. A
    checkpoint that does not fit is given back as it is.
    """
    found = renaming(_state(model), checkpoint.tensors)
    if found is None:
        return checkpoint
    if found.left_out:
        notices.warn(
            f"{len(found.left_out)} entries of the checkpoint are not weights of the model and are "
            f"left out: {listed(found.left_out)}"
        )
    tensors = {own: checkpoint.tensors[name] for name, own in found.names.items()}
    form = checkpoint.form._replace(prefix=checkpoint.form.prefix + found.prefix)
    return checkpoint._replace(tensors=tensors, form=form)


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
        raise EigenforgetError(f"{file}: {name} is not a plain tensor of weights, got {shown}")
    tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    # torch.isfinite knows no 8-bit floats.
    checked = tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor
    if not torch.isfinite(checked).all() and not (may_mask and is_mask(tensor)):
        raise EigenforgetError(f"{file}: {name} has weights that are not finite (NaN or infinite)")
    return tensor


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


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


def _loses_digits(target: torch.dtype, given: torch.dtype) -> bool:
    """Whether values lose no more than digits that training in float32 never had."""
    return (target, given) == (torch.float32, torch.float64)


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
