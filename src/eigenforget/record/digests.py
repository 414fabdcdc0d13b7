"""Digests of files, and of the weights in a .safetensors file, with the standard library only."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .canonical import RecordError
from .reading import opened

_BLOCK = 1 << 20
_MOST_HEADER = 100_000_000
"""Bytes of header that the format allows."""
_MOST_COUNT, _MOST_DIMENSIONS = 1 << 63, 64
"""Of a shape in PyTorch."""

_TYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
}
"""The format's name of a number type: PyTorch's name and the bytes of one number."""


class _Entry(NamedTuple):
    """A tensor: its PyTorch type, its shape, and where its bytes stand after the header."""

    type: str
    shape: list[int]
    begin: int
    end: int


def text_digest(text: str) -> str:
    """The digest "sha256:…" of the text in UTF-8; `file_digest` of a file with it is the same."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def file_digest(path: str | Path) -> str:
    """The digest "sha256:…" of the bytes of a file.

    Raises:
        RecordError: The file cannot be read; the message names it.
    """
    total = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return f"sha256:{total.hexdigest()}"


def weights_digest(path: str | Path) -> str:
    """The digest "sha256:…" of the tensors in a .safetensors file.

    It goes over names, types, shapes and bytes in the order of the names. It equals the digest that
    `eigenforget.models.checkpoint` computes of the model that the file was saved from, but needs no
    torch. Metadata do not count. The two differ where the model has buffers that are not saved, or
    another number type than the file.

    Raises:
        RecordError: The file cannot be read or is no whole .safetensors file: its tensors must fill
            it without gap or overlap. The message names the file.
    """
    with opened(path) as file:
        try:
            return _weights(file)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise RecordError(f"{path}: not a whole .safetensors file: {error}") from None


def _weights(file: BinaryIO) -> str:
    start, entries = _header(file, os.fstat(file.fileno()).st_size)
    total = hashlib.sha256()
    for name in sorted(entries):
        entry = entries[name]
        total.update(json.dumps([name, f"torch.{entry.type}", entry.shape]).encode() + b"\n")
        file.seek(start + entry.begin)
        _feed(file, total, entry.end - entry.begin)
    return f"sha256:{total.hexdigest()}"


def _header(file: BinaryIO, size: int) -> tuple[int, dict[str, _Entry]]:
    """Where the tensors' bytes begin, and the tensors by name."""
    first = file.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
    if not 0 < length <= min(size - 8, _MOST_HEADER):
        raise ValueError("the length of its header does not fit the file")
    header = json.loads(file.read(length).decode(), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    header.pop("__metadata__", None)
    entries = {name: _entry(name, value) for name, value in header.items()}
    at = 0
    for entry in sorted(entries.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin != at:
            raise ValueError(f"its tensors overlap or leave a gap at byte {at}")
        at = entry.end
    if 8 + length + at != size:
        raise ValueError(f"it has {size} bytes and its header describes {8 + length + at}")
    return 8 + length, entries


def _entry(name: str, value: dict[str, Any]) -> _Entry:
    kind, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    if kind not in _TYPES:
        raise ValueError(f"{name!r} has the unknown number type {kind!r}")
    if not all(type(n) is int and 0 <= n < _MOST_COUNT for n in (*shape, begin, end)):
        raise ValueError(f"shape or place of {name!r} is not a list of counts")
    if len(shape) > _MOST_DIMENSIONS or end - begin != math.prod(shape) * _TYPES[kind][1]:
        raise ValueError(f"the bytes of {name!r} do not fit its shape {shape}")
    return _Entry(_TYPES[kind][0], shape, begin, end)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _feed(file: BinaryIO, total: Any, count: int) -> None:
    while count:
        block = file.read(min(_BLOCK, count))
        if not block:
            raise ValueError("it ends early")
        total.update(block)
        count -= len(block)
