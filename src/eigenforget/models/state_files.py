"""State dicts as people save them: where they lie in a file, and under which names.

A file may nest its weights under keys such as "state_dict" or "model_state_dict", beside a moving
average and the state of an optimizer. Wrappers put a prefix before every name. Both are found,
said, and put back where a model is saved like the file that it came from.
"""

from __future__ import annotations

import argparse
import copy
import json
import pathlib
import pickle
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError, naming
from eigenforget.core.text import first_line, listed
from eigenforget.models.renaming import renaming
from eigenforget.record import RecordError, recover_near

_PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_INDEX = ".index.json"
_IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""Names under which Hugging Face saves weights in a folder; in pieces they have an index."""
_OWN = "eigenforget"
"""The entry beside weights in a file of PyTorch with what our own files hold as metadata."""
_SCALAR: Any = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("b1", "i4", "i8", "u1", "f2", "f4", "f8")},
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
"""Types beside weights that loading may make: they hold values and run nothing."""
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
_TRAINING = re.compile(r"optim|sched|scaler|callback|loops|rng|random", re.IGNORECASE)
"""Keys whose tensors are no weights of a model."""
_UNTRUE = re.compile(r"acc|best|loss|metric|score|result|ema|averag|shadow", re.IGNORECASE)
"""Keys of what was true of the original."""
_DEPTH = 3


class StateForm(NamedTuple):
    """How a file holds its weights.

    Attributes:
        way: The keys that lead to them; none where they are the whole file.
        prefix: What was taken off every name, with its dot.
    """

    way: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def line(self) -> str:
        """What was found, in words; "" for plain weights under their own names."""
        under = f"weights under {'.'.join(self.way)}" if self.way else ""
        names = f"names without {self.prefix!r}" if self.prefix else ""
        return ", ".join(filter(None, (under, names)))


class SavedState(NamedTuple):
    """What a file holds.

    Attributes:
        state: Weights by name.
        metadata: Strings beside them.
        way: The keys that lead to the weights.
        content: All that a file of PyTorch holds.
    """

    state: Mapping[Any, Any]
    metadata: dict[str, str]
    way: tuple[str, ...] = ()
    content: Any = None


def weights_file(path: Path) -> Path:
    """The file that is meant by a path: itself, or that of the weights in a folder.

    What a killed run left of it is put right first.

    Raises:
        EigenforgetError: There is none, or it is of no kind that can be read.
    """
    try:
        recover_near(path)
    except RecordError as error:
        raise EigenforgetError(str(error)) from None
    names = [name + end for name in _IN_FOLDER for end in ("", _INDEX)]
    found = [path / name for name in names if (path / name).is_file()] if path.is_dir() else [path]
    if not found:
        raise EigenforgetError(f"{path}: a folder without any of {listed(names)}")
    if found[0].suffix not in (".safetensors", *_PICKLED) and not _is_index(found[0]):
        raise EigenforgetError(
            f"{path}: a checkpoint ends in .safetensors, {', '.join(_PICKLED)} or {_INDEX}"
        )
    if not found[0].is_file():
        raise EigenforgetError(f"{path}: there is no such file")
    return found[0]


def _is_index(path: Path) -> bool:
    return path.name.endswith(_INDEX)


def read_state(path: Path, weights: str = "") -> SavedState:
    """What a file holds, read without running code.

    Args:
        path: The file, see `weights_file`.
        weights: The key of the weights that are meant, where there are several.

    Raises:
        EigenforgetError: It cannot be read, or does not hold one set of weights.
    """
    if _is_index(path):
        return SavedState(_read_pieces(path), {})
    if path.suffix == ".safetensors":
        return SavedState(*_read_safetensors(path))
    loaded = _unpickled(path)
    with naming(str(path)):
        way, state = find_state(loaded, weights)
    if not isinstance(state, Mapping):
        raise EigenforgetError(
            f"{path}: holds a {type(state).__name__}, not a state dict; {_CONVERT}"
        )
    about = loaded.get(_OWN) if isinstance(loaded, Mapping) else None
    own = about if way and isinstance(about, Mapping) else {}
    return SavedState(state, {str(key): str(value) for key, value in own.items()}, way, loaded)


def _read_pieces(index: Path) -> dict[str, Any]:
    """The weights that a file of Hugging Face says are in pieces beside it."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise EigenforgetError(f"{index}: no readable index with a weight_map") from None
    tensors: dict[str, Any] = {}
    for name in files:
        piece = index.parent / name
        if name != piece.name or not piece.is_file():
            raise EigenforgetError(f"{index}: names {name!r}, and there is no such file beside it")
        safe = piece.suffix == ".safetensors"
        tensors |= _read_safetensors(piece)[0] if safe else find_state(_unpickled(piece))[1]
    missing = [name for name in places if name not in tensors]
    if missing:
        raise EigenforgetError(f"{index}: its files lack {listed(missing)}")
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise EigenforgetError(
            f"{path}: not a readable safetensors file: {first_line(error)}"
        ) from None


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if "not an allowed global" in str(error) or "TorchScript" in str(error):
            raise EigenforgetError(
                f"{path}: holds Python objects, which could run code; {_CONVERT}"
            ) from None
        raise EigenforgetError(
            f"{path}: damaged, or not written by torch.save as weights alone; {_CONVERT}"
        ) from None


def find_state(loaded: Any, chosen: str = "") -> tuple[tuple[str, ...], Mapping[Any, Any]]:
    """The way to the weights in what a file holds, and the weights.

    Args:
        loaded: What torch.load gave.
        chosen: Keys with dots between them, or the last of them, where there are several.

    Raises:
        EigenforgetError: There are several and `chosen` names none; or it names what is not there.
    """
    found = dict(_states(loaded, ()))
    full = {way: state for way, state in found.items() if state} or found
    if chosen:
        full = {way: s for way, s in full.items() if chosen in (".".join(way), *way[-1:])}
        if not full:
            raise EigenforgetError(
                f"has no weights under {chosen!r}; there are {listed(map(_shown, found))}"
            )
    ways = list(full)
    while len(ways) > 1 and _same(full[ways[-1]], full[ways[0]]):
        ways.pop()
    if len(ways) > 1:
        raise EigenforgetError(
            f"has weights under {' and '.join(map(_shown, ways))}; choose one: "
            f"weights={_shown(ways[0])!r} (--weights {_shown(ways[0])})"
        )
    return (ways[0], full[ways[0]]) if ways else ((), loaded)


def write_like(
    like: Path,
    *,
    path: Path,
    tensors: Mapping[str, Tensor],
    about: Mapping[str, str],
    weights: str,
    seal: Callable[[Mapping[str, Tensor], Mapping[str, str]], dict[str, str]],
) -> None:
    """Writes weights in the form of another file.

    Args:
        like: The other file.
        path: The file to write.
        tensors: The weights, by the names of the model.
        about: Strings beside them, where the form has a place for them.
        weights: The key of the weights in `like`, where there are several.
        seal: seal(weights as they are written, strings) -> the strings with a digest of both.

    Raises:
        EigenforgetError: The weights are not those of a model that the other file is of.
    """
    given = read_state(like, weights)
    found = renaming(tensors, given.state)
    if found is None:
        raise EigenforgetError(f"{like}: its weights are of another model than the one to save")
    state = {
        name: tensors[found.names[name]].to(given.state[name].dtype)
        for name in given.state
        if name in found.names
    }
    if like.suffix in (".safetensors", ".json"):
        save_file(state, path, seal(state, {"format": "pt", **given.metadata, **about}))
        return
    same: Any = copy.copy(given.state)  # with the versions of layers that torch notes in it
    for name in [name for name in same if name not in state]:
        del same[name]
    same.update(state)
    content, dropped = kept_beside(given.content, given.way, same)
    if given.way:
        content[_OWN] = seal(state, about)
    if dropped:
        notices.warn(
            f"{listed(dropped)} of {like.name} are not in the new file: they belong to the original"
        )
    torch.save(content, path)


def kept_beside(loaded: Any, way: tuple[str, ...], state: Any) -> tuple[Any, list[str]]:
    """What a file holds, with other weights in the place of its own.

    Of what lies beside them, the state of a training, scores and everything with a tensor are left
    out. They belong to the original, and may hold what is to be forgotten.

    Args:
        loaded: What the file holds.
        way: The keys to its weights.
        state: The new weights.

    Returns:
        The new content, and the keys that were left out.
    """
    if not way:
        return state, []
    inner, dropped = kept_beside(loaded[way[0]], way[1:], state)
    content = {}
    for key, value in loaded.items():
        if key == way[0]:
            content[key] = inner
        elif _TRAINING.search(str(key)) or _UNTRUE.search(str(key)) or _has_tensor(value):
            dropped.append(str(key))
        else:
            content[key] = value
    return content, dropped


def _states(
    value: Any, way: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    if not isinstance(value, Mapping):
        return
    if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        yield way, value
    elif len(way) < _DEPTH:
        for key, inner in value.items():
            if isinstance(key, str) and not _TRAINING.search(key):
                yield from _states(inner, (*way, key))


def _same(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    return one.keys() == other.keys() and all(
        a.shape == other[k].shape and a.dtype == other[k].dtype and bool((a == other[k]).all())
        for k, a in one.items()
    )


def _shown(way: tuple[str, ...]) -> str:
    return ".".join(way) or "the whole file"


def _has_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_tensor, value.values()))
    if isinstance(value, (list, tuple, set)):
        return any(map(_has_tensor, value))
    return isinstance(value, Tensor)
