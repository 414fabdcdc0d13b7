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
    Outcome,
    RunRecord,
    file_digest,
    manifest_of,
    manifest_text,
    read_folder,
    seal,
    text_digest,
    weights_digest,
    write,
    write_text,
)
from eigenforget.record.signing import make_key, sign_all
from eigenforget.record.verify import Options, verify
from tests.record.toys import chain, made


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


def checkpoint(path: Path, number: float) -> str:
    """Writes a model of one weight; returns the digest of the file."""
    save_file({"w": torch.tensor([number])}, path)
    return file_digest(path)


def making(name: str, output: str, **inputs: str) -> RunRecord:
    """An unsealed record of a run that made name.safetensors from these checkpoints."""
    record = made(name, kind="unlearn", role=None, scores=())
    named = {f"file:{key}.safetensors": digest for key, digest in inputs.items()}
    outcome = replace(record.outcome, outputs={f"file:{name}.safetensors": output})
    return replace(record, inputs=named, outcome=outcome)


def found(path: Path, name: str, *, files: Path | None = None) -> list[tuple[str, str]]:
    """(status, what) of everything that is found about a file."""
    options = Options(() if files is None else (files,))
    findings = verify([path], options).findings
    return [(f.status, f.what) for f in findings if Path(f.where).name == f"{name}.safetensors"]


def test_a_checkpoint_that_a_later_run_replaced_is_said_to_be_replaced(tmp_path: Path) -> None:
    """Both records stand in one ledger; the other way round the file was put back."""
    first, second = (checkpoint(tmp_path / "m.safetensors", number) for number in (1.0, 2.0))
    ledger = tmp_path / "ledger"
    chain(ledger, [making("m", first)])
    [(status, what)] = found(ledger, "m")
    assert status == "error" and first in what and second in what and "--files" in what
    (ledger / "0.json").unlink()
    chain(ledger, [making("m", first), making("m", second)])
    assert [status for status, _ in found(ledger, "m")] == ["not checked", "ok"]
    assert found(ledger, "m")[0][1].startswith("replaced: a later record")
    checkpoint(tmp_path / "m.safetensors", 1.0)
    assert [status for status, _ in found(ledger, "m")] == ["ok", "error"]


@pytest.mark.parametrize("where", ["beside", "ledger"])
def test_an_output_is_that_very_file_and_no_other_that_the_records_name(
    tmp_path: Path, where: str
) -> None:
    """The original in place of the unlearned model, and two models with exchanged names."""
    original, gone, more = (
        checkpoint(tmp_path / f"{name}.safetensors", number)
        for name, number in (("original", 1.0), ("gone", 2.0), ("more", 3.0))
    )
    records = [
        making("original", original),
        making("gone", gone, original=original),
        making("more", more, original=original),
    ]
    if where == "beside":
        for record in records:
            write(seal(record), tmp_path / f"{record.name}.json")
        paths = [tmp_path / f"{record.name}.json" for record in records]
    else:
        chain(tmp_path / "ledger", records)
        paths = [tmp_path / "ledger"]

    def wrong() -> set[str]:
        findings = verify(paths, Options(files=(tmp_path,))).findings
        return {Path(f.where).name for f in findings if f.status == "error"}

    assert wrong() == set()
    checkpoint(tmp_path / "gone.safetensors", 1.0)
    assert wrong() == {"gone.safetensors"}
    checkpoint(tmp_path / "gone.safetensors", 3.0)
    checkpoint(tmp_path / "more.safetensors", 2.0)
    assert wrong() == {"gone.safetensors", "more.safetensors"}
    checkpoint(tmp_path / "gone.safetensors", 2.0)
    checkpoint(tmp_path / "more.safetensors", 3.0)
    checkpoint(tmp_path / "original.safetensors", 2.0)
    assert wrong() == {"original.safetensors"}, "what was read counts as what was made"


def test_a_copy_elsewhere_makes_up_for_an_input_and_not_for_the_output_beside(
    tmp_path: Path,
) -> None:
    original, gone = (
        checkpoint(tmp_path / f"{name}.safetensors", number)
        for name, number in (("original", 1.0), ("gone", 2.0))
    )
    write(seal(making("gone", gone, original=original)), tmp_path / "gone.json")
    (tmp_path / "old").mkdir()
    for name, number in (("original", 1.0), ("gone", 2.0)):
        checkpoint(tmp_path / "old" / f"{name}.safetensors", number)
        checkpoint(tmp_path / f"{name}.safetensors", 3.0)
    for files, expected in ((None, {"original", "gone"}), (tmp_path / "old", {"gone"})):
        wrong = {
            name
            for name in ("original", "gone")
            if "error" in dict(found(tmp_path / "gone.json", name, files=files))
        }
        assert wrong == expected


def test_a_copy_elsewhere_does_not_make_up_for_other_ids_beside_the_record(
    tmp_path: Path,
) -> None:
    """Whoever reads the folder reads the ids that lie there."""
    split = manifest_of(["a", "b"], ["c", "d"])
    named = {"split": split.digest, "file:split.json": text_digest(manifest_text(split))}
    for folder in ("records", "copy"):
        write_text(tmp_path / folder / "split.json", manifest_text(split))
    chain(tmp_path / "records", [made(inputs=named)])
    options = Options(files=(tmp_path,))
    assert verify([tmp_path / "records"], options).status == 0
    other = manifest_text(manifest_of(["a"], ["b", "c", "d"]))
    write_text(tmp_path / "records" / "split.json", other)
    wrong = [
        f.where for f in verify([tmp_path / "records"], options).findings if f.status == "error"
    ]
    assert wrong == [str(tmp_path / "records" / "split.json")]
    (tmp_path / "records" / "split.json").unlink()
    assert verify([tmp_path / "records"], options).status == 0


def test_the_weights_of_an_input_are_not_looked_for_in_the_output(tmp_path: Path) -> None:
    original = checkpoint(tmp_path / "original.safetensors", 1.0)
    gone = checkpoint(tmp_path / "gone.safetensors", 2.0)
    record = making("gone", gone, original=original)
    weights = {"input_model": weights_digest(tmp_path / "original.safetensors")}
    write(seal(replace(record, inputs={**record.inputs, **weights})), tmp_path / "gone.json")
    (tmp_path / "original.safetensors").rename(tmp_path / "gone.safetensors")
    assert [status for status, _ in found(tmp_path / "gone.json", "gone")] == ["error"]


def test_a_model_beside_a_record_of_a_run_that_made_none_is_an_error(tmp_path: Path) -> None:
    record = making("m", checkpoint(tmp_path / "m.safetensors", 1.0))
    refused = replace(record, outcome=Outcome("refused", 0.0, reason="not for this model"))
    write(seal(refused), tmp_path / "m.json")
    [(status, what)] = found(tmp_path / "m.json", "m")
    assert status == "error" and "refused" in what


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
