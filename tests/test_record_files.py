"""Files that records name: every flipped byte of every kind of file is found and the file is named;
digests against torch and hashlib.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from eigenforget.experiments.experiment import Experiment
from eigenforget.models import checkpoint
from eigenforget.record import (
    canonical,
    file_digest,
    manifest_of,
    manifest_text,
    read_folder,
    read_manifest,
    seal,
    text_digest,
    weights_digest,
    write,
    write_text,
)
from eigenforget.record.checks import VerifyFinding
from eigenforget.record.signing import make_key, sign_all
from eigenforget.record.verify import Options, verify
from tests.test_record import made, refusal


class Kept(NamedTuple):
    """A folder of records with all kinds of files, by kind, and how it is checked."""

    folder: Path
    files: dict[str, Path]
    options: Options


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Two chained and signed records, a checkpoint and a split."""
    folder = tmp_path_factory.mktemp("kept")
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "fc.weight": torch.randn(4, 8, generator=generator),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    save_file(tensors, folder / "m.safetensors", {"method": "muda()"})
    split = manifest_of([f"a{i}" for i in range(9)], [f"b{i}" for i in range(30)])
    write_text(folder / "split.json", manifest_text(split))
    named = {"split": split.digest, "file:split.json": file_digest(folder / "split.json")}
    outputs = {
        "model": weights_digest(folder / "m.safetensors"),
        "file:m.safetensors": file_digest(folder / "m.safetensors"),
    }
    record = made("m", kind="unlearn", role=None, scores=(), inputs=named)
    first = seal(replace(record, outcome=replace(record.outcome, outputs=outputs)))
    write(first, folder / "first.json")
    checked = {
        "checked_model": outputs["model"],
        "file:m.safetensors": outputs["file:m.safetensors"],
    }
    second = made(
        "m",
        job={"checkpoint": "m.safetensors"},
        inputs={**named, **checked},
        outcome=replace(record.outcome, outputs={}),
    )
    write(seal(second, first.digest), folder / "second.json")
    _, public = make_key(folder / "key.pem")
    sign_all([folder], folder / "key.pem")
    files = {
        "record": folder / "first.json",
        "last record": folder / "second.json",
        "split": folder / "split.json",
        "checkpoint": folder / "m.safetensors",
        "signature": folder / "first.json.sig",
    }
    return Kept(folder, files, Options(public_key=public, strict=True))


KINDS = ["record", "last record", "split", "checkpoint", "signature"]


def test_the_whole_folder_is_as_written(kept: Kept) -> None:
    assert list(kept.files) == KINDS and {
        f.status for f in verify([kept.folder], kept.options).findings
    } == {"ok"}
    assert len(read_folder(kept.folder)) == 2, "a list of ids may stand among records"


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS), where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255)
)
def test_a_byte_that_is_changed_anywhere_is_found_and_its_file_named(
    kept: Kept, kind: str, where: float, bits: int
) -> None:
    path = kept.files[kind]
    whole = path.read_bytes()
    at = int(where * len(whole))
    try:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        result = verify([kept.folder], kept.options)
    finally:
        path.write_bytes(whole)
    assert result.status == 2 and {f.where for f in result.findings if f.status == "error"} == {
        str(path)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_first_and_last_bytes_cuts_and_additions_are_found_too(kept: Kept, kind: str) -> None:
    path = kept.files[kind]
    whole = path.read_bytes()
    for blob in (
        b"\0" + whole[1:],
        whole[:-1] + b"\0",
        whole[:-1],
        whole[: len(whole) // 2],
        b"",
        whole + b"\n",
        whole + whole,
    ):
        try:
            path.write_bytes(blob)
            found = [
                f.where for f in verify([kept.folder], kept.options).findings if f.status == "error"
            ]
        finally:
            path.write_bytes(whole)
        assert str(path) in found and set(found) == {str(path)}, blob[-20:]


# --- digests ---


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


def blob(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


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


# --- the split ---


def test_the_digest_of_a_split_is_that_of_the_experiment_whose_ids_it_holds(
    digits: Experiment,
) -> None:
    found = digits.manifest()
    ids, split = digits.data.train_index.ids, digits.split
    assert found.digest == split.digest and found.digest.startswith("sha256:")
    assert set(found.forget) == {str(ids[i]) for i in split.forget} and set(found.retain) == {
        str(ids[i]) for i in split.retain
    }
    assert manifest_of(found.retain, found.forget).digest != found.digest


def test_the_digest_of_a_split_by_hand_and_the_way_through_a_file(tmp_path: Path) -> None:
    rows = b"a\x1f1\nb\x1f0\n\xc3\xa4\x1f1\n"
    split = manifest_of(["ä", "a"], ["b"])
    assert split.digest == f"sha256:{hashlib.sha256(rows).hexdigest()}" and split.forget == (
        "a",
        "ä",
    )
    assert read_manifest(write_text(tmp_path / "split.json", manifest_text(split))) == split
    hashed = split._replace(hashed=True)
    assert read_manifest(write_text(tmp_path / "split.json", manifest_text(hashed))) == hashed
    for sides in (
        ([], ["a"]),
        (["a"], []),
        (["a"], ["a"]),
        (["a", "a"], ["b"]),
        (["\ud800"], ["b"]),
    ):
        assert refusal(manifest_of, *sides)


GOOD = json.loads(manifest_text(manifest_of(["a", "b"], ["c"])))
SPLITS: dict[str, Any] = {
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "list": b"[]\n",
    "schema": {**GOOD, "schema": "eigenforget.split/2"},
    "hashed": {**GOOD, "hashed": 1},
    "missing": {k: v for k, v in GOOD.items() if k != "forget"},
    "more": {**GOOD, "x": 1},
    "digest": {**GOOD, "digest": "sha256:" + "0" * 64},
    "side": {**GOOD, "retain": "c"},
    "number": {**GOOD, "retain": [3]},
    "order": {**GOOD, "forget": ["b", "a"]},
    "twice": {**GOOD, "forget": ["a", "a"]},
    "moved": {**GOOD, "forget": ["a"], "retain": ["b", "c"]},
    "surrogate": json.dumps({**GOOD, "retain": ["\ud800"]}).encode() + b"\n",
    "spelling": json.dumps(GOOD).encode() + b"\n",
}


@pytest.mark.parametrize("name", SPLITS)
def test_what_is_no_list_of_ids_as_it_was_written_is_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    path, content = tmp_path / "split.json", SPLITS[name]
    path.write_bytes(content if isinstance(content, bytes) else canonical(content).encode() + b"\n")
    assert refusal(read_manifest, path).startswith(f"{path}: ")
    assert [f for f in verify([path]).findings if f.status == "error"], (
        "given alone it is an error as well"
    )
    path.write_bytes(canonical(GOOD).encode() + b"\n")
    assert read_manifest(path).digest == GOOD["digest"]


# --- which file is meant ---


def test_a_file_of_the_same_name_that_another_record_names_is_not_this_one_changed(
    tmp_path: Path,
) -> None:
    """A checkpoint that was replaced on purpose: both records stand in one ledger."""
    digests = []
    for number in (1.0, 2.0):
        save_file({"w": torch.tensor([number])}, tmp_path / "m.safetensors")
        digests.append(file_digest(tmp_path / "m.safetensors"))
    records = tmp_path / "ledger"
    records.mkdir()
    base = made("m", kind="train", role=None, scores=())
    first = seal(
        replace(base, outcome=replace(base.outcome, outputs={"file:m.safetensors": digests[0]}))
    )
    second = seal(
        replace(base, outcome=replace(base.outcome, outputs={"file:m.safetensors": digests[1]})),
        first.digest,
    )
    write(first, records / "1.json")
    assert verify([records]).status == 2
    write(second, records / "2.json")
    found = [f for f in verify([records]).findings if "m.safetensors" in f.where]
    missing = VerifyFinding(
        "not checked", str(records / "m.safetensors"), "not found; name its folder with --files"
    )
    assert found == [
        missing,
        VerifyFinding("ok", str(tmp_path / "m.safetensors"), f"the file of {digests[1]}"),
    ]


def test_models_are_found_by_their_weights_in_records_that_name_no_file(tmp_path: Path) -> None:
    save_file({"w": torch.tensor([1.0])}, tmp_path / "kept.safetensors")
    record = made(
        "m",
        job={"checkpoint": "m.safetensors"},
        inputs={"checked_model": weights_digest(tmp_path / "kept.safetensors")},
    )
    write(seal(replace(record, outcome=replace(record.outcome, outputs={}))), tmp_path / "r.json")
    assert [f.status for f in verify([tmp_path / "r.json"], Options(strict=True)).findings] == [
        "ok",
        "ok",
    ]
    save_file({"w": torch.tensor([2.0])}, tmp_path / "kept.safetensors")
    assert [f.status for f in verify([tmp_path / "r.json"]).findings] == ["ok", "not checked"]
    save_file({"w": torch.tensor([2.0])}, tmp_path / "m.safetensors")
    [bad] = [f for f in verify([tmp_path / "r.json"]).findings if f.status == "error"]
    assert bad.where == str(tmp_path / "m.safetensors") and bad.what.startswith(
        "its weights are not those that r.json names"
    )
