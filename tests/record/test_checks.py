"""What records say about files, compared with the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from eigenforget.record import (
    file_digest,
    manifest_of,
    manifest_text,
    read_folder,
    seal,
    weights_digest,
    write,
    write_text,
)
from eigenforget.record.checks import VerifyFinding
from eigenforget.record.signing import make_key, sign_all
from eigenforget.record.verify import Options, verify
from tests.record.toys import made


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
