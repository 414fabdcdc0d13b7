"""Whatever ends a process, the next one finds the old state or the new one, and no drafts."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eigenforget.record import transactions
from eigenforget.record.canonical import RecordError
from eigenforget.record.files import write_text
from eigenforget.record.transactions import HIDDEN, Transaction, WriteError, recover, transaction
from tests.record.test_files import content

STEPS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
OLD = {"a/1": "old", "a/2/x": "old", "a/gone": "old", "a/mine": "mine", "b/3": "old"}
NEW = {"a/1": "new", "a/2/y": "new", "a/mine": "mine", "b/3": "new", "b/4": "new"}


def before(folder: Path) -> Path:
    for name, text in OLD.items():
        write_text(folder / name, text)
    return folder


def write_new(folder: Path) -> None:
    """Replaces, adds and removes in two folders."""
    with transaction() as step:
        for name in ("a/1", "b/3", "b/4"):
            step.draft(folder / name).write_text("new")
        two = step.draft(folder / "a" / "2")
        two.mkdir()
        (two / "y").write_text("new")
        step.remove(folder / "a" / "gone")
        step.remove(folder / "a" / "never there")


def killed(work: Callable[[], None], at: int) -> bool:
    """Does the work in a child that ends without a word before a step of the file system.

    Returns:
        Whether the work has that many steps.
    """
    child = os.fork()
    if child == 0:
        left = at

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal left
            opened = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
            if event in STEPS or opened:
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_process_may_die_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and of use only when the power fails
    at, seen = 0, []
    while True:
        folder = before(tmp_path / str(at))
        died = killed(lambda folder=folder: write_new(folder), at)  # type: ignore[misc]
        begun = any(folder.rglob("journal"))
        if begun:  # the one who recovers dies as well
            killed(lambda folder=folder: recover(folder / "b"), at % 7)  # type: ignore[misc]
        recover(folder / "a")
        recover(folder / "b")
        found = content(folder)
        assert found in (OLD, NEW), at
        assert not list(folder.rglob(f"{HIDDEN}*"))
        seen.append(found == NEW)
        if not died:
            break
        at += 1 if begun else 3  # one by one while names change
    assert seen == sorted(seen) and seen[-1] and at > 20


def left_half_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that dies when half of the names have changed; returns its journal."""

    def rename(old: Path, new: Path, true: Callable[..., None] = os.rename) -> None:
        if str(new).endswith("b/3") and HIDDEN in str(old):
            raise KeyboardInterrupt
        true(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        patch.setattr("eigenforget.record.transactions._undo", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            write_new(folder)
    (journal,) = folder.rglob("journal")
    return journal


def test_what_is_half_done_is_undone_from_either_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        left_half_done(before(tmp_path / name), monkeypatch)
        recover(tmp_path / name / name)
        assert content(tmp_path / name) == OLD


def test_folders_are_known_by_their_real_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    for way in ("links/a", "real/b"):
        folder = before(tmp_path / "real" / way.partition("/")[2])
        link = tmp_path / "links" / folder.name
        link.symlink_to(folder)
        left_half_done(link, monkeypatch)
        recover(tmp_path / way / "b")
        assert content(folder) == OLD


def test_what_others_wrote_meanwhile_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = left_half_done(before(tmp_path), monkeypatch)
    (tmp_path / "b" / "3").write_text("mine")
    with pytest.raises(RecordError, match="3: was written by another hand"):
        recover(tmp_path / "b")
    assert (tmp_path / "b" / "3").read_text() == "mine" and journal.exists()
    (tmp_path / "b" / "3").unlink()
    recover(tmp_path / "b")
    assert content(tmp_path) == OLD


def test_a_copied_or_forged_journal_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = left_half_done(before(tmp_path / "here"), monkeypatch)
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    with pytest.raises(RecordError, match="is a copy"):
        recover(tmp_path / "copy" / "a")
    value = json.loads(journal.read_text())
    for change in ({"works": [value["works"][0], "../.."]}, {"entries": [[0, "../b/3", False, 0]]}):
        journal.write_text(json.dumps(value | change))
        with pytest.raises(RecordError):
            recover(tmp_path / "here" / "a")
    journal.write_text(json.dumps(value))
    recover(tmp_path / "here" / "a")
    assert content(tmp_path / "here") == OLD


def test_drafts_of_the_living_stay(tmp_path: Path) -> None:
    living = Transaction(overwrite=True)
    living.draft(tmp_path / "x").write_text("new")
    recover(tmp_path)
    write_text(tmp_path / "y", "other")
    living.commit()
    living.close()
    assert content(tmp_path) == {"x": "new", "y": "other"}


def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "out" / "old", "1")

    def rename(*_: object) -> None:
        raise AssertionError("two steps")

    if sys.platform == "linux":
        monkeypatch.setattr(os, "rename", rename)
    with transaction() as step:
        draft = step.draft(tmp_path / "out")
        draft.mkdir()
        (draft / "new").write_text("2")
    assert content(tmp_path) == {"out/new": "2"}


@pytest.mark.parametrize(
    "names", [("file",), ("folder/x",), ("file", "folder/x"), ("folder/x", "z")]
)
@pytest.mark.parametrize("renames", [True, False])
def test_what_appears_after_the_look_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], renames: bool
) -> None:
    """Another process takes the last name between the check of the names and their change."""
    if not renames:
        monkeypatch.setattr(transactions, "_renamed", lambda *_: False)
    flush, taken = transactions._flush_tree, names[-1]
    monkeypatch.setattr(
        transactions, "_flush_tree", lambda new: (flush(new), write(tmp_path / taken, "theirs"))
    )
    with (
        pytest.raises(RecordError, match=f"{Path(taken).parts[0]}: exists already"),
        transaction(overwrite=False) as step,
    ):
        for name in names:
            write(step.draft(tmp_path / Path(name).parts[0]).joinpath(*Path(name).parts[1:]), "new")
    assert content(tmp_path) == {taken: "theirs"}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_a_process_may_die_while_a_file_has_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system cannot rename without replacing, a link gives the draft its name."""
    monkeypatch.setattr(transactions, "_renamed", lambda *_: False)

    def unlink(path: Path, true: Callable[..., None] = os.unlink) -> None:
        if path.name == "2":
            raise KeyboardInterrupt
        true(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        patch.setattr(transactions, "_undo", lambda _: None)
        with pytest.raises(KeyboardInterrupt), transaction(overwrite=False) as step:
            for name in ("1", "2", "3"):
                write(step.draft(tmp_path / name), "new")
    assert {"1", "2"} <= set(content(tmp_path))
    recover(tmp_path)
    assert content(tmp_path) == {}


def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path: Path) -> None:
    write_text(tmp_path / "out" / "mine", "mine")
    with pytest.raises(RecordError, match="is a folder and is not replaced by a file"):
        write_text(tmp_path / "out", "new")
    assert content(tmp_path) == {"out/mine": "mine"}


def test_no_hidden_folder_stays_where_its_lock_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.open

    def full(path: object, *more: int) -> int:
        if str(path).endswith("lock"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return plain(path, *more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(WriteError, match="make room"), transaction() as step:
        step.draft(tmp_path / "results" / "1").write_text("new")
    assert os.listdir(tmp_path) == []
