"""Files and folders are written whole or not at all, and only files and folders are replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record.canonical import RecordError
from eigenforget.record.files import (
    atomic_file,
    atomic_folder,
    atomic_update,
    check_place,
    slug,
    write_bytes,
    write_secret,
    write_text,
)
from eigenforget.record.transactions import HIDDEN, WriteError


def content(folder: Path) -> dict[str, str]:
    """Every file below the folder, hidden ones included."""
    return {
        str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert write_text(tmp_path / "a", "old") == tmp_path / "a"
    write_bytes(tmp_path / "a", b"new")
    assert content(tmp_path) == {"a": "new"}
    with pytest.raises(RecordError, match="a: exists"):
        write_text(tmp_path / "a", "newer", overwrite=False)
    assert content(tmp_path) == {"a": "new"}


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyError), atomic_file(tmp_path / "a") as draft:
        draft.write_text("half")
        raise KeyError
    with pytest.raises(WriteError, match="No space left"), atomic_file(tmp_path / "a") as draft:
        draft.write_text("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(WriteError, match="cannot be written: a file is where"):
        write_text(tmp_path / "a" / "b", "x")
    assert content(tmp_path) == {"a": "old"} and len(list(tmp_path.iterdir())) == 1
    write_text(tmp_path / "new" / "deep" / "a", "x")
    assert content(tmp_path / "new") == {"deep/a": "x"}


def test_a_users_own_drafts_are_never_touched(tmp_path: Path) -> None:
    for name in (".out.draft", ".out.tmp"):
        write_text(tmp_path / name, "mine")
    alike = tmp_path / f"{HIDDEN}0123456789abcdef"
    write_text(alike / "mine", "mine")
    write_text(tmp_path / f"{HIDDEN}notes" / "new", "mine")
    with atomic_folder(tmp_path / "out") as draft:
        write_text(draft / "a", "1")
    write_text(tmp_path / "out" / "b", "2")
    assert content(tmp_path) == {
        ".out.draft": "mine",
        ".out.tmp": "mine",
        f"{alike.name}/mine": "mine",
        f"{HIDDEN}notes/new": "mine",
        "out/a": "1",
        "out/b": "2",
    }


def make_link(path: Path) -> None:
    write_text(path.with_name("target"), "kept")
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize("make", [os.mkfifo, make_link], ids=["pipe", "link"])
@pytest.mark.parametrize("kind", ["file", "folder", "update"])
def test_pipes_and_links_are_never_replaced(tmp_path: Path, make: Any, kind: str) -> None:
    path = tmp_path / "x"
    make(path)
    before = os.lstat(path)
    with pytest.raises(RecordError, match=r"x: is .*not replaced"):
        if kind == "file":
            write_text(path, "new")
        elif kind == "folder":
            with atomic_folder(path, overwrite=True):
                pass
        else:
            with atomic_update(tmp_path) as draft:
                write_text(draft / "x", "new")
    assert os.lstat(path) == before
    assert {p.name for p in tmp_path.iterdir()} <= {"x", "target"}


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(RecordError, match="/dev/null: is not a regular file"):
        write_text("/dev/null", "x")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "out") as draft:
        write_text(draft / "old", "1")
    with pytest.raises(RecordError, match="out: exists"), atomic_folder(tmp_path / "deep" / "out"):
        pass
    with atomic_folder(tmp_path / "deep" / "out", overwrite=True) as draft:
        (draft / "sub").mkdir()
        write_text(draft / "sub" / "new", "2")
        assert content(tmp_path / "deep" / "out") == {"old": "1"}
    assert content(tmp_path) == {"deep/out/sub/new": "2"}
    write_text(tmp_path / "file", "x")
    with pytest.raises(RecordError, match="is a file"):
        with atomic_folder(tmp_path / "file", overwrite=True):
            pass


def test_a_failure_leaves_the_old_folder_and_no_draft(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as draft:
        write_text(draft / "a", "old")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "out", overwrite=True) as draft:
        write_text(draft / "a", "half")
        raise KeyError
    assert content(tmp_path) == {"out/a": "old"} and len(list(tmp_path.iterdir())) == 1


def test_entries_are_replaced_together_and_the_others_stay(tmp_path: Path) -> None:
    for name in ("mine", "record", "stale"):
        write_text(tmp_path / name, "old")
    with atomic_update(tmp_path, remove=("stale", "record", "none")) as draft:
        write_text(draft / "record", "new")
        write_text(draft / "split", "new")
    assert content(tmp_path) == {"mine": "old", "record": "new", "split": "new"}
    with pytest.raises(RecordError, match="record: exists"):
        with atomic_update(tmp_path, overwrite=False) as draft:
            write_text(draft / "another", "x")
            write_text(draft / "record", "x")
    assert content(tmp_path) == {"mine": "old", "record": "new", "split": "new"}


@pytest.mark.parametrize("failing", range(1, 6))
def test_every_step_of_an_update_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write_text(tmp_path / "a", "old a")
    write_text(tmp_path / "b", "old b")
    true, calls = os.rename, []

    def rename(old: Path, new: Path) -> None:
        calls.append(old)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        true(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(WriteError, match="Input/output error"), atomic_update(tmp_path) as draft:
        write_text(draft / "a", "new a")
        write_text(draft / "b", "new b")
    assert content(tmp_path) == {"a": "old a", "b": "old b"}


def test_a_secret_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    write_secret(tmp_path / "s", b"x")
    assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o600
    with pytest.raises(RecordError, match="never replaced"):
        write_secret(tmp_path / "s", b"y")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("by_class(label=3)", "by_class-label-3"),
        ("by_class(label=-3)", "by_class-label--3"),
        ("oracle 1", "oracle-1"),
        ("a/../b", "a-..-b"),
        ("m ü/0", "m-ü-0"),
        ("../", "unnamed"),
    ],
)
def test_a_slug_is_a_plain_file_name(text: str, name: str) -> None:
    assert slug(text) == name


def test_a_long_slug_is_cut_and_stays_its_own() -> None:
    names = {slug("ä" * 300), slug("ä" * 301), slug("ä" * 70)}
    assert len(names) == 3 and all(len(name.encode()) <= 150 for name in names)


def refused(path: object, words: str, *, folder: bool = False) -> None:
    with pytest.raises(RecordError, match=words) as caught:
        check_place(str(path), overwrite=True, folder=folder)
    assert "\n" not in str(caught.value)


def test_a_place_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("file", "mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo("pipe")
    Path("nowhere").symlink_to("gone")
    before = sorted(tmp_path.rglob("*"))
    for path in ("new", "new/deep/x", "file", "[red]", "folder/x"):
        check_place(path, overwrite=True)
    for path in ("new", "new/deep/x", ".", "..", "folder"):
        check_place(path, overwrite=False, folder=True)
    refused("file/x", "file/x: .*file is a file")
    refused("folder", "is a folder; name a file in it")
    for path in (".", "..", "/", "folder/.."):
        refused(path, "is a folder; name a file in it")
    refused("file", "is a file; results go into a folder", folder=True)
    refused("nowhere", "is a link")
    refused("nowhere", "is a link to nothing", folder=True)
    refused("pipe", "is not a regular file")
    refused("/dev/full", "is not a regular file")
    refused("/dev/null/x", "null is a file; name a folder")
    refused("a" * 256, "name too long; choose a shorter name".replace("name too", "[Nn]ame too"))
    refused("/".join(["deep"] * 1000), "too long; choose a shorter name")
    refused("a\0b", "NUL byte")
    with pytest.raises(RecordError, match="file: exists already; use --overwrite"):
        check_place("file", overwrite=False)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_place_that_takes_nothing_is_found_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def mkdir(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", mkdir)
    refused(tmp_path / "x", rf"x: cannot be written: {os.strerror(number)}; ")
