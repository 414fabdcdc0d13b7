"""Notes on the records of a ledger, so that an append reads new and changed ones only.

They stand in the hidden file .index of the folder: for each record what its chain needs to know,
and the size, times and inode of its file. A file that is as noted was read and checked before. Any
other one is read. The notes prove nothing: without them, or in a copy of the folder, every record
is read, and `verify` never looks at them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .canonical import RecordError
from .reading import read_bytes
from .schema import Outcome, RunRecord
from .store import StoredRecord, read

INDEX = ".index"
_HEADER = "eigenforget.ledger-index/1"
_OUTCOME = Outcome("ok", 0.0)
_MOST_BYTES = 1 << 30
"""Of the notes. A line has about 400 bytes, so they go far beyond what a folder holds."""
_GRAIN, _COARSE = 50_000_000, 2_000_000_000
"""Nanoseconds within which two writes may carry the same time: five ticks of a kernel with 100 Hz,
and the two seconds of FAT where a time has whole seconds. A younger file is not noted yet."""


class FileState(NamedTuple):
    """How a file looks from outside.

    Args:
        size: Bytes.
        modified: Nanoseconds.
        changed: Nanoseconds of the last change of the inode, which nobody can set.
        inode: Its number.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState | None:
        """The state; None where there is no such file."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def settled(self, now: int) -> bool:
        """Whether a later write would show in the times."""
        newest = max(self.modified, self.changed)
        return now - newest > (_GRAIN if newest % 1_000_000_000 else _COARSE)


def read_with_index(folder: Path, paths: Sequence[Path]) -> tuple[list[StoredRecord], list[Any]]:
    """The outlines of a ledger's records, and notes for `write_index`.

    Args:
        folder: The ledger, locked.
        paths: The files of its records.

    Returns:
        The records in the order of the paths, and what is to be noted once they are one chain.

    Raises:
        RecordError: A record is not as it was written.
    """
    noted, now = _noted(folder), time.time_ns()
    known = noted or {}
    stored: list[StoredRecord] = []
    fresh: list[Any] = []
    for path in paths:
        state = FileState.of(path)
        note = known.get(path.name)
        if note is None or state is None or note[1] != [*state]:
            note = [path.name, state, *_facts(read(path))]
            if state is not None and state.settled(now) and FileState.of(path) == state:
                fresh.append(note)
        stored.append(StoredRecord(_outline(note), path))
    return stored, [] if noted is None else fresh


def write_index(folder: Path, fresh: Sequence[Any]) -> None:
    """Adds notes on records that were read and are one chain; where that fails there are none."""
    if not fresh:
        return
    lines = "".join(f"{json.dumps(note)}\n" for note in fresh)
    try:
        with open(folder / INDEX, "a", encoding="utf-8") as file:
            file.write(lines if file.tell() else f"{_HEADER}\n{lines}")
    except OSError:
        return  # such as a full disk: the next append reads more


def _noted(folder: Path) -> dict[str, Any] | None:
    """The notes by the name of the file; None where a file of this name is somebody else's."""
    path = folder / INDEX
    if not os.path.lexists(path):
        return {}
    try:
        header, _, lines = read_bytes(path, _MOST_BYTES).decode().partition("\n")
    except (RecordError, ValueError):
        return None
    if header != _HEADER:
        return None
    try:
        notes = json.loads("[" + ",".join(lines.splitlines()) + "]")
        if not lines.endswith("\n") or not all(map(_is_note, notes)):
            raise ValueError(path)
        return {note[0]: note for note in notes}
    except (ValueError, RecursionError):  # a writer was killed, or a byte was changed
        path.unlink(missing_ok=True)
        return {}


def _is_note(note: Any) -> bool:
    return (
        isinstance(note, list)
        and len(note) == 8
        and isinstance(note[1], list)
        and all(isinstance(note[i], str) for i in (0, 2, 3, 7))
        and all(note[i] is None or isinstance(note[i], str) for i in (4, 5, 6))
    )


def _facts(record: RunRecord) -> list[str | None]:
    split, corrects = record.inputs.get("split"), record.job.get("corrects")
    return [record.kind, record.name, split, corrects, record.previous, record.digest]


def _outline(note: list[Any]) -> RunRecord:
    kind, name, split, corrects, previous, digest = note[2:]
    return RunRecord(
        kind=kind,
        name=name,
        created="",
        job={} if corrects is None else {"corrects": corrects},
        inputs={} if split is None else {"split": split},
        environment={},
        outcome=_OUTCOME,
        previous=previous,
        digest=digest,
    )
