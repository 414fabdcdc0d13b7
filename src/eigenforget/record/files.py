"""Writes files and folders as a whole: readers see the old content or the new one, never a part.

Everything is written as a draft in a hidden folder beside the target, flushed to disk and then
renamed; see `transactions`. Only regular files and real folders are ever replaced: a device, a pipe
or a link is an error.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .canonical import RecordError
from .transactions import (
    Transaction,
    WriteError,
    check_replaceable,
    is_draft,
    not_written,
    recover_near,
    transaction,
)

_LONGEST = 150
"""Bytes of a file name that is made from a text; a file system takes 255 with what is added."""


def slug(text: str) -> str:
    """The text as a file name on any system: by_class(label=3) becomes by_class-label-3.

    A long one is cut, and gets a digest of the whole text.
    """
    name = re.sub(r"[^\w.%-]+", "-", text).strip("-.") or "unnamed"
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name.encode()[: _LONGEST - 13].decode(errors='ignore')}-{digest}"


def write_text(path: str | Path, text: str, *, overwrite: bool = True) -> Path:
    """Writes a text file in UTF-8 as a whole and returns its path.

    Args:
        path: The file; the folders above it are made.
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
    if os.path.lexists(path):
        raise RecordError(f"{path} exists; a secret is never replaced")
    with atomic_file(path, overwrite=False) as draft:
        fill_secret(draft, content)
    return Path(path)


def fill_secret(draft: Path, content: bytes) -> None:
    """Writes the draft of a file that only its owner may read."""
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


@contextmanager
def atomic_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields the path of a draft to write to; it takes the file's name when the block succeeds.

    Args:
        path: The file; the folders above it are made.
        overwrite: Whether a regular file of this name is replaced.

    Raises:
        RecordError: The file exists and `overwrite` is false, or it is no regular file.
        WriteError: The file cannot be written; an OSError within the block counts.
    """
    path = Path(path)
    check_replaceable(path, overwrite=overwrite)
    if is_draft(path.parent):
        try:
            yield path  # what it is part of becomes whole, or nothing of it
        except OSError as error:
            raise WriteError(not_written(path, error)) from error
        return
    with transaction(overwrite=overwrite) as step:
        yield step.draft(path)


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a fresh, empty draft folder that replaces `path` when the block succeeds.

    Args:
        path: The folder; the folders above it are made.
        overwrite: Whether a folder of this name is replaced, with all that is in it.

    Raises:
        RecordError: The folder exists and `overwrite` is false, or it is a file or a link.
        WriteError: It cannot be written; an OSError within the block counts.
    """
    if Path(path).is_file() and not Path(path).is_symlink():
        raise RecordError(f"{path}: is a file and is not replaced by a folder")
    with transaction(overwrite=overwrite) as step:
        draft = step.draft(path)
        draft.mkdir()
        yield draft


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
    with transaction(overwrite=overwrite) as step:
        for name in remove:
            step.remove(Path(folder, name))
        yield step.folder(folder)


def check_place(path: str | Path, *, overwrite: bool, folder: bool = False) -> None:
    """Checks, before hours of work, that a file or folder can be written there, by trying.

    What a dead process left half done there is undone first. A draft is written as far as the
    target will need it, with every folder above that is missing, and removed.

    Args:
        path: The file, or the folder of which some entries will be written.
        overwrite: Whether a regular file of this name is replaced. A folder may exist.
        folder: Whether it is to be a folder.

    Raises:
        RecordError: Something else is there, or it is a file that is not replaced.
        WriteError: It cannot be written.
    """
    given, path = path, Path(path)
    if "\0" in str(path):
        raise RecordError(f"{str(given)!r}: a name cannot hold a NUL byte; choose another one")
    if not folder and path.name in ("", ".."):
        raise RecordError(f"{path}: is a folder; name a file in it")
    try:
        _rehearse(path, overwrite=overwrite, folder=folder)
    except OSError as error:
        raise WriteError(not_written(path, error)) from None


def _rehearse(path: Path, *, overwrite: bool, folder: bool) -> None:
    recover_near(path)
    there = os.path.lexists(path)
    if there and folder and not path.is_dir():
        broken = "a link to nothing" if path.is_symlink() else "a file"
        raise RecordError(f"{path}: is {broken}; results go into a folder")
    if there and not folder:
        if path.is_dir() and not path.is_symlink():
            raise RecordError(f"{path}: is a folder; name a file in it")
        check_replaceable(path, overwrite=overwrite)
    base = path.absolute() if folder and there else path.absolute().parent
    missing = [] if folder and there else [path.name]
    while not os.path.lexists(base):
        base, missing = base.parent, [base.name, *missing]
    if not base.is_dir():
        raise RecordError(f"{path}: {base} is a file; name a folder")
    trial = Transaction(overwrite=False)
    try:
        place = trial.folder(base).joinpath(*missing)
        (place if folder else place.parent).mkdir(parents=True, exist_ok=True)
        with open(place / "probe" if folder else place, "wb") as probe:
            probe.write(bytes(4096))
            probe.flush()
            os.fsync(probe.fileno())
    finally:
        trial.close()
