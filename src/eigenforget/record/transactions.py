"""Files and folders that take their names together or not at all, whatever ends the process.

Everything is first written as a draft in a hidden folder of its own, .eigenforget-…, beside its
target, and flushed to disk. One target takes its name in one step of the file system. Several do it
under a journal: a list in the first hidden folder of what is about to be renamed. When the
journal is renamed to "done", the new state holds. Who finds a journal whose process is dead undoes
what it lists (`recover`); every writer and reader looks for one first. A lock of the
operating system on a file in each hidden folder tells the dead from the living. Where nothing may
be replaced, the file system itself refuses a name that another process has taken meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .canonical import RecordError
from .os_locks import try_lock

HIDDEN = ".eigenforget-"
"""The beginning of the names of hidden folders; 16 hex digits follow."""
_NAME = re.compile(re.escape(HIDDEN) + "[0-9a-f]{16}")
_PARTS = frozenset(("lock", "new", "old", "journal", "journal.new", "done", "first"))
"""All that a hidden folder may hold. A folder with anything else is a user's own."""
_PATIENCE = 60.0
"""Seconds that a reader waits for a living process which is just renaming."""
_NO_REPLACE, _EXCHANGE = 1, 2
"""How the system call renameat2 renames."""
_CURES = {
    errno.ENOSPC: "make room or name another place",
    errno.EDQUOT: "make room or name another place",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "name a folder that you may write to",
    errno.EPERM: "name a folder that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "name a folder that can be written to",
}


class WriteError(RecordError):
    """A file or folder could not be written, as where a disk is full; what was there is whole."""


class Transaction:
    """Drafts that take their names together; see `transaction`.

    Args:
        overwrite: Whether files and folders of these names are replaced.
    """

    def __init__(self, *, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._drafts: dict[Path, _Drafts] = {}
        self._gone: list[tuple[_Drafts, str]] = []
        self._made: list[Path] = []
        self._held = ExitStack()
        self._done = False

    def folder(self, path: str | Path, *, recovers: bool = True) -> Path:
        """A draft folder whose entries go into this folder, which is made where it is missing.

        Args:
            path: The folder.
            recovers: Whether the folder is recovered first; not where the caller does it.
        """
        return self._in(path, recovers=recovers).new

    def draft(self, path: str | Path) -> Path:
        """Where to write what takes this name in the end, a file or a folder.

        Raises:
            RecordError: Something is there and is not replaced.
        """
        path = Path(path).absolute()
        if path.name in ("", ".."):
            raise RecordError(f"{path}: names a folder from within; give the name itself")
        check_replaceable(path, overwrite=self._overwrite)
        return self.folder(path.parent) / path.name

    def remove(self, path: str | Path) -> None:
        """Takes a file or folder away together with the others, if it is there."""
        path = Path(path).absolute()
        self._gone.append((self._in(path.parent), path.name))

    def hold(self, context: AbstractContextManager[Any]) -> None:
        """Enters a context, such as a lock, that is left when all is done."""
        self._held.enter_context(context)

    def commit(self) -> None:
        """Gives every draft its name."""
        steps = [
            _Step(drafts, name) for drafts in self._drafts.values() for name in _names(drafts.new)
        ]
        for step in steps:
            step.check(overwrite=self._overwrite)
        new = {(step.drafts.place, step.name) for step in steps}
        gone = [_Step(*item) for item in self._gone if (item[0].place, item[1]) not in new]
        gone = [step for step in gone if os.path.lexists(step.target)]
        for step in gone:
            check_replaceable(step.target, overwrite=True)
        for drafts in self._drafts.values():
            _flush_tree(drafts.new)
        at_once = len(steps) == 1 and not gone and steps[0].at_once(overwrite=self._overwrite)
        if not at_once and (gone or steps):
            self._journalled([*gone, *steps])
        self._done = True

    def close(self) -> None:
        """Removes the drafts, and the folders that were made in vain."""
        first, *others = self._drafts.values() or (None,)
        pending = first is not None and (first.work / "journal").exists()
        # The first one goes last: while it is there, the others can tell whether all is done.
        for drafts in (*others, first):
            if drafts is not None:
                drafts.end(keep=pending)
        for folder in () if self._done else reversed(self._made):
            with suppress(OSError):  # not empty
                folder.rmdir()
        self._held.close()

    def line(self, error: OSError) -> str:
        """The error in one line with the name of the target, not of a draft."""
        name = str(error.filename or "")
        where: Path | None = None
        for place, drafts in self._drafts.items():
            if name.startswith(f"{drafts.new}{os.sep}"):
                where = place / Path(name).relative_to(drafts.new).parts[0]
        if where is None:
            all_drafts = self._drafts.values()
            known = [drafts.place / name for drafts in all_drafts for name in _names(drafts.new)]
            where = known[0] if known else Path(name or next(iter(self._drafts), "."))
        return not_written(where, error)

    def _in(self, folder: str | Path, *, recovers: bool = True) -> _Drafts:
        # By its real path: hidden folders find each other by relative ones.
        place = Path(os.path.realpath(folder))
        if place not in self._drafts:
            self._make(place)
            if recovers:
                recover(place)
            self._drafts[place] = _Drafts.begin(place)
        return self._drafts[place]

    def _make(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
        folder.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)

    def _journalled(self, steps: list[_Step]) -> None:
        first, *others = self._drafts.values()
        for drafts in others:
            _write(drafts.work / "first", os.path.relpath(first.work, drafts.place))
        works = list(self._drafts.values())
        entries = [
            [works.index(step.drafts), step.name, os.path.lexists(step.target), step.inode()]
            for step in steps
        ]
        places = [os.path.relpath(drafts.work, first.place) for drafts in works]
        value = {"inode": os.stat(first.work).st_ino, "works": places, "entries": entries}
        _write(first.work / "journal.new", json.dumps(value))
        journal = first.work / "journal"
        try:
            os.rename(first.work / "journal.new", journal)
            for drafts in works:
                _flush(drafts.place)
            _flush(first.work)
            for step in steps:
                step.rename(overwrite=self._overwrite)
            for drafts in works:
                _flush(drafts.place)
            os.rename(journal, first.work / "done")  # from here on the new state holds
        finally:
            if journal.exists():
                _undo(first.work)
        _flush(first.work)


@contextmanager
def transaction(*, overwrite: bool = True) -> Iterator[Transaction]:
    """Yields a transaction; when the block succeeds, all its drafts take their names, or none.

    Args:
        overwrite: Whether files and folders of these names are replaced.

    Raises:
        RecordError: A name is taken and is not replaced.
        WriteError: Something cannot be written; an OSError within the block counts.
    """
    step = Transaction(overwrite=overwrite)
    try:
        yield step
        step.commit()
    except OSError as error:
        raise WriteError(step.line(error)) from error
    finally:
        step.close()


def recover(folder: str | Path, *, besides: str = "") -> list[str]:
    """Undoes what a dead process left half done in a folder, and removes its drafts.

    Drafts of living processes stay. One that is just renaming is waited for.

    Args:
        folder: The folder.
        besides: The name of a hidden folder in it that is not looked at: the caller's own.

    Returns:
        The names of what is in the folder then, in any order; none where it cannot be listed.

    Raises:
        RecordError: What was begun cannot be undone here.
    """
    names = _listed(folder)
    hidden = [n for n in names if n[0] == "." and n != besides and _NAME.fullmatch(n)]
    for name in hidden:
        if _ours(Path(folder, name)):
            _settle(Path(os.path.realpath(folder), name))
    return _listed(folder) if hidden else names


def _listed(folder: str | Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):
        return []


def recover_near(path: str | Path) -> None:
    """Recovers whatever a file or folder of results may be part of.

    Raises:
        RecordError: As `recover`.
    """
    path = Path(path).absolute()
    for place in (path, path.parent, path.parent.parent):
        recover(place)


def is_draft(folder: str | Path) -> bool:
    """Whether a folder is, or is in, the draft of a transaction."""
    parts = Path(folder).absolute().parts
    return any(_NAME.fullmatch(a) and b == "new" for a, b in itertools.pairwise(parts))


def check_replaceable(path: str | Path, *, overwrite: bool) -> None:
    """Checks that something new may be written under this name.

    Raises:
        RecordError: It exists and `overwrite` is false, or it is a link, a device or a pipe.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        place = os.path.realpath(path)
        raise RecordError(f"{path}: is a link and is not replaced; name the place itself: {place}")
    if not (path.is_file() or path.is_dir()):
        raise RecordError(f"{path}: is not a regular file and is not replaced; name another place")
    if not overwrite:
        raise RecordError(f"{path}: exists already; use --overwrite (overwrite=True) to replace it")


def not_written(path: str | Path, error: OSError) -> str:
    """Why a file cannot be written, in one line."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{path}: cannot be written: a file is where a folder must be; name another place"
    cure = _CURES.get(error.errno or 0)
    return f"{path}: cannot be written: {error.strerror or error}" + (f"; {cure}" if cure else "")


class _Drafts:
    """The hidden folder of one transaction in one place, locked while its process lives."""

    def __init__(self, place: Path, work: Path, handle: int) -> None:
        self.place, self.work, self._handle = place, work, handle
        self.new, self.old = work / "new", work / "old"

    @classmethod
    def begin(cls, place: Path) -> _Drafts:
        while True:
            work = place / f"{HIDDEN}{secrets.token_hex(8)}"
            work.mkdir()
            try:
                handle = os.open(work / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:  # another process took the empty folder for a dead one's
                continue
            except OSError:  # such as a full disk
                with suppress(OSError):
                    work.rmdir()
                raise
            found, whole = cls(place, work, handle), False
            try:
                whole = found.filled()
            finally:
                if not whole:
                    found.end(keep=False)
            if whole:
                return found

    def filled(self) -> bool:
        """Locks and fills the folder, unless another process has just removed it."""
        with suppress(OSError):  # a file system without locks
            while not try_lock(self._handle):
                time.sleep(0.01)
        lock = self.work / "lock"
        if not lock.exists() or lock.stat().st_ino != os.fstat(self._handle).st_ino:
            return False
        self.new.mkdir()
        self.old.mkdir()
        return True

    def end(self, *, keep: bool) -> None:
        os.close(self._handle)
        if not keep:
            shutil.rmtree(self.work, ignore_errors=True)


class _Step(NamedTuple):
    """One name that changes hands."""

    drafts: _Drafts
    name: str

    @property
    def target(self) -> Path:
        return self.drafts.place / self.name

    @property
    def new(self) -> Path:
        return self.drafts.new / self.name

    def inode(self) -> int | None:
        return os.lstat(self.new).st_ino if os.path.lexists(self.new) else None

    def check(self, *, overwrite: bool) -> None:
        check_replaceable(self.target, overwrite=overwrite)
        if self.target.exists() and self.target.is_dir() != self.new.is_dir():
            kinds = ("folder", "file") if self.target.is_dir() else ("file", "folder")
            raise RecordError(f"{self.target}: is a {kinds[0]} and is not replaced by a {kinds[1]}")

    def at_once(self, *, overwrite: bool) -> bool:
        """Does it in one step of the file system, where that is possible."""
        if not overwrite:
            self._take()
        elif not self.target.exists() or not self.target.is_dir():
            os.replace(self.new, self.target)
        elif not _renamed(self.new, self.target, _EXCHANGE):
            return False
        _flush(self.drafts.place)
        return True

    def rename(self, *, overwrite: bool) -> None:
        """Does it in several steps, which a journal undoes."""
        drafted = os.path.lexists(self.new)
        if drafted and not overwrite:
            self._take()
            return
        if os.path.lexists(self.target):
            os.rename(self.target, self.drafts.old / self.name)
        if drafted:
            os.rename(self.new, self.target)

    def _take(self) -> None:
        """Gives the draft its name, which somebody may have taken since it was found free."""
        try:
            _take_name(self.new, self.target)
        except OSError:
            check_replaceable(self.target, overwrite=False)
            raise


def _take_name(new: Path, target: Path) -> None:
    """Renames a draft to a name that nothing has; to look first would leave a gap for others.

    Raises:
        FileExistsError: Something has the name.
    """
    if _renamed(new, target, _NO_REPLACE):
        return
    if sys.platform == "win32" or new.is_dir():
        os.rename(new, target)  # never in place of a file, nor of a folder that holds something
        return
    try:
        os.link(new, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: only here a gap is left
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(new, target)
        return
    os.unlink(new)


def _renamed(old: Path, new: Path, how: int) -> bool:
    """Whether Linux renamed an entry in this way, in one step; False where that is not possible.

    Raises:
        FileExistsError: The name is taken, for _NO_REPLACE.
    """
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    sys.audit("os.rename", str(old), str(new), -1, -1)  # as os.rename does
    here = -100
    if call(here, os.fsencode(old), here, os.fsencode(new), how) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    return False


def _settle(work: Path) -> None:
    """Undoes and removes the hidden folder of a dead process."""
    journal = work / "journal"
    try:
        handle = os.open(work / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        if journal.exists():
            raise RecordError(
                f"{work.parent}: a run was killed while it put its results here, and what it began "
                f"cannot be undone: {error.strerror or error}; make the folder writable"
            ) from None
        return
    try:
        if _locked(handle, journal):
            _undone(work)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise RecordError(
            f"{work.parent}: what a killed run began here cannot be undone: "
            f"{error.strerror or error}"
        ) from None
    finally:
        os.close(handle)


def _locked(handle: int, journal: Path) -> bool:
    """Whether the process of this hidden folder is dead. Waits while a living one renames."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            if try_lock(handle):
                return True
        except OSError:  # a file system without locks: nobody can tell
            return False
        if not journal.exists():
            return False
        if time.monotonic() > until:
            raise RecordError(
                f"{journal.parent.parent}: another process is writing here; wait until it is done"
            )
        time.sleep(0.01)


def _undone(work: Path) -> None:
    """Undoes the transaction that this hidden folder is part of, unless it was done."""
    if (work / "journal").exists():
        _undo(work)
    elif (work / "done").exists():
        _end_parts(work, json.loads((work / "done").read_text(encoding="utf-8"))["works"])
    elif (work / "first").exists():
        text = (work / "first").read_text(encoding="utf-8", errors="replace")
        first = Path(os.path.abspath(work.parent / text))
        if not _ours(first) and _names(work / "old"):
            raise RecordError(
                f"{work.parent}: a run was killed while it put its results here, and the folder "
                f"{first.parent} that tells how far it came is gone; what it replaced is in "
                f"{work / 'old'}: move it back, or remove {work}"
            )
        if (first / "journal").exists() and _ours(first):
            _settle(first)


def _undo(first: Path) -> None:
    """Gives every name in a journal back to what had it before, and ends the journal."""
    journal = json.loads((first / "journal").read_text(encoding="utf-8"))
    if journal["inode"] != os.stat(first).st_ino:
        raise RecordError(
            f"{first.parent}: is a copy of a folder in which a run was killed while it put its "
            f"results there; run a command on the folder itself and copy it again, or remove "
            f"{first.name}"
        )
    works = [Path(os.path.abspath(first.parent / place)) for place in journal["works"]]
    for work in works:
        if not _is_part(work, first):
            raise RecordError(
                f"{first.parent}: a run was killed while it put its results here and into "
                f"{work.parent}, whose part is gone; what it replaced is in {first / 'old'}"
            )
    for number, name, existed, inode in reversed(journal["entries"]):
        _restore(works[number], _plain(name), existed=existed, inode=inode)
    for work in works:
        _flush(work.parent)
    os.unlink(first / "journal")
    _end_parts(first, journal["works"])


def _end_parts(first: Path, places: list[str]) -> None:
    """Removes the other hidden folders of a transaction that is over."""
    for place in places:
        work = Path(os.path.abspath(first.parent / place))
        if work != first and _is_part(work, first):
            shutil.rmtree(work, ignore_errors=True)


def _restore(work: Path, name: str, *, existed: bool, inode: int | None) -> None:
    target, new, old = work.parent / name, work / "new" / name, work / "old" / name
    if os.path.lexists(new) and os.path.lexists(target) and os.path.samefile(new, target):
        os.unlink(new)  # killed while one file had two names
    if existed and not os.path.lexists(old):
        return  # not begun
    if os.path.lexists(target):
        if os.lstat(target).st_ino != inode or os.path.lexists(new):
            if not existed:
                return  # somebody else's
            raise RecordError(
                f"{target}: was written by another hand after a run was killed; what the run "
                f"replaced is {old}: move or remove one of them"
            )
        os.rename(target, new)
    if existed:
        os.rename(old, target)


def _is_part(work: Path, first: Path) -> bool:
    """Whether this hidden folder belongs to the transaction of that one."""
    if work == first:
        return True
    try:
        text = (work / "first").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _ours(work) and Path(os.path.abspath(work.parent / text)) == first


def _ours(work: Path) -> bool:
    """Whether it is a hidden folder of this package and of this user, and not only named so."""
    try:
        status = os.lstat(work)
        mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
        return (
            stat.S_ISDIR(status.st_mode)
            and mine
            and _NAME.fullmatch(work.name) is not None
            and set(os.listdir(work)) <= _PARTS
        )
    except OSError:
        return False


def _plain(name: str) -> str:
    if name != Path(name).name or name in ("", ".", ".."):
        raise RecordError(f"{name!r} in a journal is not a plain name")
    return name


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush_tree(folder: Path) -> None:
    """Makes sure that all in a folder is on disk and not only in memory."""
    for place, _, names in os.walk(folder):
        for name in names:
            if os.path.isfile(os.path.join(place, name)):
                with open(os.path.join(place, name), "rb+") as file:
                    os.fsync(file.fileno())
        _flush(Path(place))


def _flush(folder: Path) -> None:
    """Makes sure that the names in a folder are on disk, where the system can do that."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
