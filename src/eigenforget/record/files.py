"""Writes files and folders as a whole: readers see the old content or the new one, never a part.

Everything is written as a draft with a name of its own beside the target, flushed to disk and then
renamed. Only regular files and real folders are ever replaced: a device, a pipe or a link is an
error. Drafts are removed whatever happens.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .canonical import RecordError


class WriteError(RecordError):
    """A file or folder could not be written, as where a disk is full; what was there is whole."""


def slug(text: str) -> str:
    """The text as a file name on any system: by_class(label=3) becomes by_class-label-3."""
    return re.sub(r"[^\w.%-]+", "-", text).strip("-.") or "unnamed"


def write_text(path: str | Path, text: str, *, overwrite: bool = True) -> Path:
    """Writes a text file in UTF-8 as a whole and returns its path.

    Args:
        path: The file; its folder must exist.
        text: The whole content.
        overwrite: Whether a regular file of this name is replaced.

    Raises:
        RecordError: The file exists and `overwrite` is false, or it is no regular file.
        WriteError: The file cannot be written.
    """
    return write_bytes(path, text.encode(), overwrite=overwrite)


def write_bytes(path: str | Path, content: bytes, *, overwrite: bool = True) -> Path:
    """Writes a file as a whole, as `write_text` does."""
    with atomic_file(path, overwrite=overwrite) as draft:
        draft.write_bytes(content)
    return Path(path)


def write_secret(path: str | Path, content: bytes) -> Path:
    """Writes a new file that only its owner may read (mode 0600).

    Raises:
        RecordError: The file exists: a secret is never replaced.
        WriteError: The file cannot be written.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise RecordError(f"{path} exists; a secret is never replaced") from None
    except OSError as error:
        raise _not_written(path, error) from None
    return path


@contextmanager
def atomic_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields the path of a draft to write to; it takes the file's name when the block succeeds.

    Args:
        path: The file; its folder must exist.
        overwrite: Whether a regular file of this name is replaced.

    Raises:
        RecordError: The file exists and `overwrite` is false, or it is no regular file.
        WriteError: The file cannot be written; an OSError within the block counts.
    """
    path = Path(path)
    check_replaceable(path, overwrite=overwrite)
    draft = _beside(path, "tmp")
    try:
        yield draft
        _flush(draft)
        os.replace(draft, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a fresh, empty draft folder that replaces `path` when the block succeeds.

    The old folder is whole, under its own or a hidden name, until the new one stands in its place.

    Args:
        path: The folder; the folders above it are made.
        overwrite: Whether a folder of this name is replaced, with all that is in it.

    Raises:
        RecordError: The folder exists and `overwrite` is false, or it is a file or a link.
        WriteError: It cannot be written; an OSError within the block counts.
    """
    path = Path(path)
    if path.is_file() and not path.is_symlink():
        raise RecordError(f"{path}: is a file and is not replaced by a folder")
    check_replaceable(path, overwrite=overwrite)
    with _drafts(path, path.parent) as work:
        yield work / "new"
        _exchange([(work / "new", path)], (), work / "old")


@contextmanager
def atomic_update(
    folder: str | Path, *, overwrite: bool = True, remove: Sequence[str] = ()
) -> Iterator[Path]:
    """Yields a draft folder whose entries replace those of the same names in `folder`, all or none.

    Args:
        folder: The folder; it is made where it is missing. Its other entries stay.
        overwrite: Whether entries of these names are replaced.
        remove: Names of entries that are taken out in the same step, where they exist.

    Raises:
        RecordError: An entry exists and `overwrite` is false, or it is neither a regular file nor
            a real folder.
        WriteError: Something cannot be written; an OSError within the block counts.
    """
    folder = Path(folder)
    with _drafts(folder.absolute(), folder) as work:  # "." has no name
        draft = work / "new"
        yield draft
        entries = [(entry, folder / entry.name) for entry in sorted(draft.iterdir())]
        for _, target in entries:
            check_replaceable(target, overwrite=overwrite)
        gone = [folder / name for name in remove if not (draft / name).exists()]
        for target in gone:
            check_replaceable(target, overwrite=True)
        _exchange(entries, gone, work / "old")


def check_replaceable(path: str | Path, *, overwrite: bool) -> None:
    """Checks that something new may be written under this name.

    Raises:
        RecordError: It exists and `overwrite` is false, or it is a link, a device or a pipe.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise RecordError(
            f"{path}: is a link and is not replaced; name the place itself: {path.resolve()}"
        )
    if not (path.is_file() or path.is_dir()):
        raise RecordError(f"{path}: is no regular file and is not replaced")
    if not overwrite:
        raise RecordError(f"{path}: exists already; say overwrite to replace it")


@contextmanager
def _drafts(path: Path, parent: Path) -> Iterator[Path]:
    """Yields a hidden folder of its own in `parent`, for drafts and for what they replace."""
    work = parent / _beside(path, "draft").name
    done = False
    try:
        parent.mkdir(parents=True, exist_ok=True)
        (work / "new").mkdir(parents=True)
        (work / "old").mkdir()
        yield work
        done = True
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        # What could not be put back is not thrown away.
        if done or not any((work / "old").glob("*")):
            shutil.rmtree(work, ignore_errors=True)


def _exchange(entries: Sequence[tuple[Path, Path]], gone: Iterable[Path], old: Path) -> None:
    """Renames each draft to its target, and undoes everything where one of the steps fails."""
    for draft, _ in entries:
        _flush(draft)
    undo: list[tuple[Path, Path]] = []
    done = False
    try:
        for target in [*(target for _, target in entries), *gone]:
            if os.path.lexists(target):
                os.rename(target, old / target.name)
                undo.append((old / target.name, target))
        for draft, target in entries:
            os.rename(draft, target)
            undo.append((target, draft))
        done = True
    finally:
        for now, before in () if done else reversed(undo):
            os.rename(now, before)


def _flush(path: Path) -> None:
    """Makes sure that a file, or every file of a folder, is on disk and not only in memory."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with open(file, "rb+") as written:
                os.fsync(written.fileno())


def _beside(path: Path, kind: str) -> Path:
    """A hidden name beside the path that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.{kind}")


def _not_written(path: Path, error: OSError) -> WriteError:
    return WriteError(f"{path}: cannot be written: {error.strerror or error}")
