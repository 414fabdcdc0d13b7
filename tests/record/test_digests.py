"""Digests of bytes, texts and weights."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eigenforget.models import checkpoint
from eigenforget.record import (
    file_digest,
    text_digest,
    weights_digest,
    write_text,
)
from tests.record.kept_toys import blob
from tests.record.toys import refusal


def test_bytes_and_texts_have_the_digest_of_hashlib(tmp_path: Path) -> None:
    text = "ä" * 700_000  # more than one block
    write_text(tmp_path / "f", text)
    assert (
        file_digest(tmp_path / "f")
        == text_digest(text)
        == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    )
    assert refusal(file_digest, tmp_path / "none").startswith(
        f"{tmp_path / 'none'}: cannot be read"
    )


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_have_the_digest_that_torch_computes(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 48, dtype=np.uint8)).view(dtype)
    tensors = {"z": raw.reshape(-1, 2), "a.scalar": raw[0].clone(), "ö": raw[:0].clone()}
    save_file(tensors, tmp_path / "m.safetensors", {"any": "text"})
    assert weights_digest(tmp_path / "m.safetensors") == checkpoint.tensors_digest(tensors)
    save_file(tensors, tmp_path / "n.safetensors", {"other": "metadata"})
    assert weights_digest(tmp_path / "n.safetensors") == checkpoint.tensors_digest(tensors)
    assert file_digest(tmp_path / "n.safetensors") != file_digest(tmp_path / "m.safetensors")


def test_a_saved_model_has_its_own_digest(tmp_path: Path, trained: torch.nn.Module) -> None:
    checkpoint.save_checkpoint(trained, tmp_path / "m.safetensors", {})
    assert weights_digest(tmp_path / "m.safetensors") == checkpoint.model_digest(trained)


ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
HOSTILE = {
    "empty": b"",
    "short": b"\1\0",
    "length": struct.pack("<Q", 1 << 62) + b"{}",
    "no length": struct.pack("<Q", 0),
    "no JSON": blob(b"{"),
    "no object": blob([1]),
    "no entry": blob({"w": 3}),
    "nested": blob(b"[" * 50_000),
    "not UTF-8": blob(b"\xff\xfe{}"),
    "type": blob({"w": {**ENTRY, "dtype": "U9"}}, b"ab"),
    "type list": blob({"w": {**ENTRY, "dtype": []}}, b"ab"),
    "shape": blob({"w": {**ENTRY, "shape": [-2]}}, b"ab"),
    "shape text": blob({"w": {**ENTRY, "shape": ["2"]}}, b"ab"),
    "true": blob({"w": {**ENTRY, "shape": [2, True]}}, b"ab"),
    "size": blob({"w": {**ENTRY, "shape": [3]}}, b"ab"),
    "ends": blob({"w": {**ENTRY, "data_offsets": [0]}}, b"ab"),
    "gap": blob({"w": {**ENTRY, "data_offsets": [1, 3]}}, b"abc"),
    "overlap": blob({"v": ENTRY, "w": {**ENTRY, "data_offsets": [1, 3]}}, b"abc"),
    "tail": blob({"w": ENTRY}, b"abc"),
    "cut": blob({"w": ENTRY}, b"a"),
    "twice": blob(b'{"w":%s,"w":%s}' % ((json.dumps(ENTRY).encode(),) * 2), b"ab"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_whole_checkpoint_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(HOSTILE[name])
    assert refusal(weights_digest, path).startswith(f"{path}: not a whole .safetensors file: ")
    path.write_bytes(blob({"w": ENTRY}, b"ab"))
    assert weights_digest(path) == checkpoint.tensors_digest(
        {"w": torch.tensor([97, 98], dtype=torch.uint8)}
    )
