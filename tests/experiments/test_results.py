"""Results on disk: checked before work, sealed as one chain, written together or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eigenforget import record
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.evaluation.records import append_to_ledger
from eigenforget.experiments.results import (
    PLAIN,
    Output,
    Recording,
    checkpoint_files,
    file_of,
    sealed,
)
from eigenforget.record.signing import signature_path
from eigenforget.requests import REQUESTS
from tests.record.toys import made

SPLIT = record.manifest_of(["ann", "bob"], ["cem", "dora"])


def test_a_checkpoint_is_checked_before_work(tmp_path: Path) -> None:
    with pytest.raises(EigenforgetError, match=r"m\.pt"):
        Output(tmp_path / "m.pt").check_checkpoint()
    target = tmp_path / "m.safetensors"
    Output(target).check_checkpoint()
    for name in ("m.safetensors", "m.json", "m.split.json"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(record.RecordError, match=re.escape(str(tmp_path / name))):
            Output(target).check_checkpoint()
        Output(target, overwrite=True).check_checkpoint()
        (tmp_path / name).unlink()


def test_a_folder_of_results_is_checked_before_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(record.RecordError, match="file"):
        Output(tmp_path / "file").check_folder()
    folder = tmp_path / "results"
    Output(folder).check_folder()
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    Output(folder).check_folder()
    for name in ("table.csv", "report.html"):
        (folder / name).write_text("")
    with pytest.raises(EigenforgetError, match=r"table\.csv, report\.html"):
        Output(folder).check_folder()
    Output(folder, overwrite=True).check_folder()


def test_salt_and_ledger_are_checked_with_every_output(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "000000-x.json").write_text("{}")
    for bad, name in (
        (Recording(hash_ids=tmp_path / "no-salt"), "no-salt"),
        (Recording(ledger=tmp_path / "broken"), "000000-x.json"),
    ):
        for check in (
            Output(tmp_path / "m.safetensors", bad).check_checkpoint,
            Output(tmp_path / "results", bad).check_folder,
        ):
            with pytest.raises(record.RecordError, match=name):
                check()


def test_records_are_one_chain_that_names_its_split() -> None:
    found = sealed(
        [made("one"), made("two")], SPLIT, request=None, names={}, split_name="m.split.json"
    )
    assert found.split == record.manifest_text(SPLIT)
    assert found.records[1].previous == found.records[0].digest
    digest = record.text_digest(found.split)
    assert all(r.inputs["file:m.split.json"] == digest for r in found.records)
    bare = sealed([made("one")], None, request=None, names={})
    assert bare.split == "" and bare.records[0].inputs == made("one").inputs


def test_with_a_salt_neither_records_nor_split_nor_title_name_anyone(tmp_path: Path) -> None:
    recording = Recording(hash_ids=record.make_salt(tmp_path / "salt"))
    request = parse("by_ids(ids=('ann', 'bob'))", REQUESTS, "request")
    found = sealed(
        [made("one", claims=("ann was forgotten.",))],
        SPLIT,
        request=request,
        names={"id": ("ann", "bob", "cem", "dora")},
        recording=recording,
    )
    texts = (found.split, record.canonical(record.to_json(found.records[0])))
    shown = recording.shown("by_ids(ids=('ann', 'bob'))", request)
    assert not re.search("(?<!c)ann|bob|cem|dora", " ".join((*texts, shown))) and "by_ids(" in shown
    assert PLAIN.shown("ann", request) == "ann" and recording.shown("all", None) == "all"


def test_a_checkpoint_and_its_files_appear_together(tmp_path: Path) -> None:
    output = Output(tmp_path / "m.safetensors", overwrite=True)
    chain = sealed([made("one")], SPLIT, request=None, names={}, split_name="m.split.json")
    with pytest.raises(ValueError, match="stop"), checkpoint_files(output) as files:
        files.model.write_bytes(b"weights")
        files.write(chain)
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    with checkpoint_files(output) as files:
        files.model.write_bytes(b"weights")
        files.rows.write_text("rows")
        files.write(chain)
    names = {"m.safetensors", "m.json", "m.split.json", "m.rows"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert record.read(tmp_path / "m.json") == chain.records[0]
    assert file_of(tmp_path / "m.split.json") == {
        "file:m.split.json": record.text_digest(chain.split)
    }
    # A record without a split takes split, signature and rows of the one before away.
    signature_path(tmp_path / "m.json").write_text("signed")
    with checkpoint_files(output) as files:
        files.model.write_bytes(b"others")
        files.write(sealed([made("two")], None, request=None, names={}))
    assert {p.name for p in tmp_path.iterdir()} == {"m.safetensors", "m.json"}


def test_records_go_into_a_ledger_where_one_is_kept(tmp_path: Path) -> None:
    chain = sealed([made("one"), made("two")], None, request=None, names={}).records
    for ledger in (None, tmp_path / "ledger"):
        with record.transaction() as step:
            append_to_ledger(chain, ledger, step)
    assert [r.name for r in record.read_folder(tmp_path / "ledger")] == ["one", "two"]
