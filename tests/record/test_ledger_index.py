"""The notes of a ledger: an append reads the newest record, and all where the notes do not fit."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record import append, ledger_index, read_folder
from eigenforget.record.ledger import check_ledger
from eigenforget.record.ledger_index import INDEX
from eigenforget.record.verify import verify
from tests.record.toys import chain, made, refusal


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Six records that are all noted."""
    folder = tmp_path / "ledger"
    chain(folder, [made(f"m{i}") for i in range(5)])
    append(folder, made("m5"))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read as records."""
    names: list[str] = []
    real = ledger_index.read_outline

    def counted(path: Path) -> Any:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(ledger_index, "read_outline", counted)
    return names


def test_an_append_reads_the_newest_record_only(ledger: Path, reads: list[str]) -> None:
    append(ledger, made("a"))
    assert reads == ["000006-m5.json"]
    append(ledger, made("b"))
    assert reads == ["000006-m5.json", "000007-a.json"]
    assert [record.name for record in read_folder(ledger)][4:] == ["m4", "m5", "a", "b"]


def test_a_look_at_a_ledger_changes_nothing(tmp_path: Path, reads: list[str]) -> None:
    chain(tmp_path, [made("m"), made("n")])
    check_ledger(tmp_path)
    assert reads == ["0.json", "1.json"] and not (tmp_path / INDEX).exists()
    append(tmp_path, made("o"))
    noted = (tmp_path / INDEX).read_bytes()
    reads.clear()
    check_ledger(tmp_path)
    assert reads == ["000003-o.json"] and (tmp_path / INDEX).read_bytes() == noted


def test_an_earlier_record_that_was_changed_in_place_is_found_by_verify_not_by_an_append(
    ledger: Path,
) -> None:
    victim = ledger / "2.json"
    victim.write_bytes(victim.read_bytes().replace(b"5.5", b"5.4"))
    append(ledger, made("new"))
    (finding,) = [f for f in verify([str(ledger)]).findings if f.status == "error"]
    assert "2.json" in str(finding)
    (ledger / INDEX).unlink()
    assert "2.json" in refusal(append, ledger, made("newer"))


def test_the_newest_record_is_read_before_another_follows(ledger: Path) -> None:
    victim = ledger / "000006-m5.json"
    victim.write_bytes(victim.read_bytes().replace(b"5.5", b"5.4"))
    assert victim.name in refusal(append, ledger, made("new"))
    assert victim.name in refusal(check_ledger, ledger)


@pytest.mark.parametrize("name", ["0.json", "3.json", "000006-m5.json"])
def test_a_record_that_is_gone_breaks_the_chain_as_it_does_without_notes(
    ledger: Path, name: str
) -> None:
    (ledger / name).unlink()
    if name == "000006-m5.json":  # the end of a chain may be cut off unseen; docs/reliability.md
        append(ledger, made("new"))
        assert [record.name for record in read_folder(ledger)][4:] == ["m4", "new"]
        return
    told = refusal(append, ledger, made("new"))
    (ledger / INDEX).unlink(missing_ok=True)
    assert told == refusal(append, ledger, made("new"))


def test_a_record_that_somebody_added_is_read(ledger: Path, tmp_path: Path) -> None:
    shutil.copytree(ledger, tmp_path / "other")
    append(tmp_path / "other", made("theirs"))
    append(ledger, made("ours"))
    shutil.copy(tmp_path / "other/000007-theirs.json", ledger)
    assert "has the same previous record as" in refusal(append, ledger, made("new"))


def test_corrections_and_twins_are_known_from_the_notes(ledger: Path, reads: list[str]) -> None:
    assert "evaluates 'm1'" in refusal(append, ledger, made("m1"))
    assert "looks like" in refusal(append, ledger, made("M1"))
    again = append(ledger, made("m1", created="2026-11-24T14:00:00Z"), again=True)
    assert set(reads) == {"000006-m5.json"}
    first = read_folder(ledger)[1].digest
    assert again.job["corrects"] == first
    third = append(ledger, made("m1", created="2026-11-24T15:00:00Z"), again=True)
    assert third.job["corrects"] == again.digest
    # an own correction of any earlier record, and of none that is there
    append(ledger, made("m9", job={"corrects": read_folder(ledger)[2].digest}))
    append(ledger, made("m2", created="2026-11-24T16:00:00Z"))  # the first m2 is out of force
    assert "not an earlier record" in refusal(
        append, ledger, made("z", job={"corrects": "sha256:" + "0" * 64})
    )
    assert len(read_folder(ledger)) == 10


def test_notes_of_a_death_before_the_record_took_its_name_are_made_anew(
    ledger: Path, reads: list[str]
) -> None:
    append(ledger, made("lost"))
    (ledger / "000007-lost.json").unlink()
    reads.clear()
    append(ledger, made("next"))
    assert len(reads) == 6 and (ledger / "000007-next.json").exists()
    reads.clear()
    append(ledger, made("later"))
    assert reads == ["000007-next.json"]


def spoiled(notes: Path, damage: str) -> None:
    content = notes.read_bytes()
    if damage == "cut":
        notes.write_bytes(content[: len(content) // 2])
    elif damage == "zeros":
        notes.write_bytes(content[:100] + bytes(len(content) - 100))
    elif damage == "empty":
        notes.write_bytes(b"")
    elif damage == "older":
        notes.write_bytes(b'eigenforget.ledger-index/1\n["0.json"]\n')
    elif damage == "other rows":
        with sqlite3.connect(notes) as table:
            table.execute("UPDATE records SET digest = 'x' WHERE number = 6")
    else:
        with sqlite3.connect(notes) as table:
            table.execute("DROP TABLE records")


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "older", "other rows", "no table"])
def test_damaged_notes_are_made_anew(ledger: Path, reads: list[str], damage: str) -> None:
    spoiled(ledger / INDEX, damage)
    append(ledger, made("a"))
    assert {*reads} == {"0.json", "1.json", "2.json", "3.json", "4.json", "000006-m5.json"}
    reads.clear()
    append(ledger, made("b"))
    assert reads == ["000007-a.json"]
    assert len(read_folder(ledger)) == 8


def test_a_copy_of_the_folder_has_its_notes(ledger: Path, reads: list[str], tmp_path: Path) -> None:
    shutil.copytree(ledger, tmp_path / "copy")
    append(tmp_path / "copy", made("a"))
    assert reads == ["000006-m5.json"]


@pytest.mark.parametrize("own", ["mine\n", "link", "table"])
def test_a_file_of_this_name_that_is_not_ours_stays(tmp_path: Path, own: str) -> None:
    folder = tmp_path / "ledger"
    chain(folder, [made("m")])
    if own == "link":
        (tmp_path / "elsewhere").write_text("mine\n")
        (folder / INDEX).symlink_to(tmp_path / "elsewhere")
    elif own == "table":
        with sqlite3.connect(folder / INDEX) as table:
            table.execute("CREATE TABLE records (number INTEGER)")
    else:
        (folder / INDEX).write_text(own)
    before = (folder / INDEX).read_bytes()
    append(folder, made("a"))
    append(folder, made("b"))
    assert (folder / INDEX).read_bytes() == before and len(read_folder(folder)) == 3


def test_a_ledger_takes_appends_where_notes_cannot_be_written(tmp_path: Path) -> None:
    chain(tmp_path, [made("m")])
    (tmp_path / INDEX).mkdir()
    append(tmp_path, made("a"))
    append(tmp_path, made("b"))
    assert len(read_folder(tmp_path)) == 3
    assert sorted(os.listdir(tmp_path / INDEX)) == []
