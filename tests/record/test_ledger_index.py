"""The notes of a ledger: appends read what is new or changed, and never more trust than that."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record import append, ledger_index, read_folder
from eigenforget.record.ledger import check_ledger
from eigenforget.record.ledger_index import INDEX
from eigenforget.record.store import json_files
from tests.record.toys import chain, made, refusal


def note(folder: Path) -> None:
    """Waits until the files are older than a tick of the clock, and notes all of them."""
    time.sleep(0.06)
    _, fresh = ledger_index.read_with_index(folder, json_files(folder))
    ledger_index.write_index(folder, fresh)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Six records that are all noted."""
    folder = tmp_path / "ledger"
    chain(folder, [made(f"m{i}") for i in range(6)])
    note(folder)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read as records."""
    names: list[str] = []
    real = ledger_index.read

    def counted(path: Path) -> Any:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(ledger_index, "read", counted)
    return names


def test_an_append_reads_only_what_is_not_noted(ledger: Path, reads: list[str]) -> None:
    append(ledger, made("a"))
    assert reads == []
    append(ledger, made("b"))
    assert reads == ["000007-a.json"]
    note(ledger)
    reads.clear()
    append(ledger, made("c"))
    assert reads == []
    assert [record.name for record in read_folder(ledger)][5:] == ["m5", "a", "b", "c"]


def test_a_look_at_a_ledger_changes_nothing(tmp_path: Path, reads: list[str]) -> None:
    chain(tmp_path, [made("m")])
    time.sleep(0.06)
    check_ledger(tmp_path)
    assert reads == ["0.json"] and not (tmp_path / INDEX).exists()
    refusal(append, tmp_path, made("m"))
    assert not (tmp_path / INDEX).exists()


def test_a_record_that_was_changed_in_place_is_read_and_refused(ledger: Path) -> None:
    victim = ledger / "2.json"
    times = os.stat(victim)
    victim.write_bytes(victim.read_bytes().replace(b"5.5", b"5.4"))
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time
    assert "2.json" in refusal(append, ledger, made("new"))


@pytest.mark.parametrize("name", ["0.json", "3.json", "5.json"])
def test_a_record_that_is_gone_breaks_the_chain_as_it_does_without_notes(
    ledger: Path, name: str
) -> None:
    (ledger / name).unlink()
    if name == "5.json":  # the end of a chain may be cut off unseen; see docs/reliability.md
        append(ledger, made("new"))
        return
    told = refusal(append, ledger, made("new"))
    (ledger / INDEX).unlink()
    assert told == refusal(append, ledger, made("new"))


def test_corrections_and_twins_are_known_from_the_notes(ledger: Path, reads: list[str]) -> None:
    assert "evaluates 'm1'" in refusal(append, ledger, made("m1"))
    assert "looks like" in refusal(append, ledger, made("M1"))
    again = append(ledger, made("m1", created="2026-11-24T14:00:00Z"), again=True)
    assert reads == [] and again.job["corrects"] == read_folder(ledger)[1].digest


@pytest.mark.parametrize("damage", ["cut", "[1]\n", '["0.json"]\n', "\xff", "[[[\n"])
def test_damaged_notes_are_made_anew(ledger: Path, reads: list[str], damage: str) -> None:
    notes = ledger / INDEX
    whole = notes.read_bytes()
    notes.write_bytes(whole[:-9] if damage == "cut" else whole + damage.encode("utf-8"))
    append(ledger, made("a"))
    assert len(reads) == 6 and notes.read_bytes() == whole


def test_a_copy_of_the_folder_is_read_again(ledger: Path, reads: list[str], tmp_path: Path) -> None:
    shutil.copytree(ledger, tmp_path / "copy")
    append(tmp_path / "copy", made("a"))
    assert len(reads) == 6


@pytest.mark.parametrize("own", ["mine\n", "link"])
def test_a_file_of_this_name_that_is_not_ours_stays(tmp_path: Path, own: str) -> None:
    (tmp_path / "elsewhere").write_text("mine\n")
    folder = tmp_path / "ledger"
    chain(folder, [made("m")])
    if own == "link":
        (folder / INDEX).symlink_to(tmp_path / "elsewhere")
    else:
        (folder / INDEX).write_text(own)
    time.sleep(0.06)
    append(folder, made("a"))
    assert (folder / INDEX).read_text() == "mine\n"


def test_a_ledger_takes_appends_where_notes_cannot_be_written(tmp_path: Path) -> None:
    chain(tmp_path, [made("m")])
    (tmp_path / INDEX).mkdir()
    append(tmp_path, made("a"))
    assert len(read_folder(tmp_path)) == 2
