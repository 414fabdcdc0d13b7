"""Notes on the records of a ledger, so that an append reads the newest one only.

They stand in the hidden file .index of the folder, a table of SQLite: for each record what its
chain needs to know. They are believed where the folder holds as many records as they tell of and
the newest one, which is read as a whole, is the one that they end with. Otherwise every record is
read, and the notes are made anew. They prove nothing: that earlier files are as they were written
is what `verify` finds out, which reads every byte and never looks at them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .canonical import RecordError
from .fields import appearance
from .schema import Outcome, RunRecord
from .store import (
    StoredRecord,
    chain_problems,
    in_order,
    json_files,
    read_outline,
)

if TYPE_CHECKING:  # where nothing is appended, it need not be loaded
    import sqlite3

INDEX = ".index"
_MAGIC, _OWN = b"SQLite format 3\0", 0x45464C31
"""How a file of SQLite begins, and the number in it that says whose it is ("EFL1")."""
_OLDER = b"eigenforget.ledger-index/1\n"
"""How notes of an earlier form begin; they are made anew."""
_OUTCOME = Outcome("ok", 0.0)
_COLUMNS = "file, kind, name, look, split, corrects, previous, digest"
_TABLE = f"""
PRAGMA application_id = {_OWN};
DROP TABLE IF EXISTS records;
CREATE TABLE records (
    number INTEGER PRIMARY KEY, file TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    look TEXT NOT NULL, split TEXT, corrects TEXT, previous TEXT, digest TEXT NOT NULL
);
CREATE INDEX by_look ON records (look);
CREATE INDEX by_digest ON records (digest);
CREATE INDEX by_corrects ON records (corrects);
"""
_MANY = 500
"""Values in one question to SQLite, whose older versions take 999."""


class LedgerIndex:
    """What the records of a ledger are to each other; see `ledger_index`.

    Args:
        folder: The ledger, locked.
        names: The names of the files of its records.
        keep: Whether notes are written.

    Attributes:
        count: Records of the ledger.
        tip: The digest of the newest one; None where there is none.

    Raises:
        RecordError: A record is not as it was written, or the records are no one chain.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, keep: bool) -> None:
        self._folder, self._keep = folder, keep
        self.count = 0
        self.tip: str | None = None
        self._notes = self._opened()
        if not self._are_of(len(names)):
            self._read_all()

    def close(self) -> None:
        """Closes the file of the notes."""
        self._notes.close()

    def about(self, records: Sequence[RunRecord]) -> list[StoredRecord]:
        """Outlines of all records that decide whether these may follow, in the order of the chain.

        These are records whose names look the same, what corrects them or is corrected, and so on.
        """
        import sqlite3

        try:
            found = self._related(records)
        except sqlite3.Error:  # a byte was changed
            self._read_all()
            found = self._related(records)
        return [
            StoredRecord(_outline(found[number]), self._folder / found[number][0])
            for number in sorted(found)
        ]

    def add(self, stored: Sequence[StoredRecord]) -> None:
        """Notes further records, which are about to be written behind the newest one."""
        import sqlite3

        if not self._keep:
            return
        with suppress(sqlite3.Error):  # such as a full disk: the next append counts and reads all
            self._insert(stored, self.count + 1)

    def _opened(self) -> sqlite3.Connection:
        """The notes of the file; in memory only where it is somebody else's or cannot be opened."""
        import sqlite3

        path = self._folder / INDEX
        there = os.path.lexists(path)
        if (there and _is_ours(path)) or (not there and self._keep):
            with suppress(sqlite3.Error):
                return sqlite3.connect(path)
        return sqlite3.connect(":memory:")

    def _are_of(self, files: int) -> bool:
        """Whether there are notes of so many records, and the newest is the one they end with."""
        import sqlite3

        try:
            (count,) = self._notes.execute("SELECT count(*) FROM records").fetchone()
            newest = self._notes.execute(
                "SELECT file, digest FROM records WHERE number = ?", (count,)
            ).fetchone()
        except sqlite3.Error:  # there are none yet, or a byte was changed
            return False
        if count != files or newest is None:
            return False
        name, digest = newest
        path = self._folder / name
        if not os.path.exists(path) or read_outline(path).digest != digest:
            return False
        self.count, self.tip = count, digest
        return True

    def _read_all(self) -> None:
        import sqlite3

        files = json_files(self._folder)
        # Outlines: ten thousand whole records would take a gigabyte.
        stored = [StoredRecord(_outline(_row(read_outline(path), path)), path) for path in files]
        if problems := chain_problems(stored):
            raise RecordError(problems[0])
        ordered = in_order(stored)
        self._notes.close()
        path = self._folder / INDEX
        if self._keep and os.path.lexists(path) and _is_ours(path):
            with suppress(OSError):
                path.unlink()
        self._notes = self._opened() if self._keep else sqlite3.connect(":memory:")
        try:
            self._fill(ordered)
        except sqlite3.Error:  # such as a folder that takes no file
            self._notes.close()
            self._notes, self._keep = sqlite3.connect(":memory:"), False
            self._fill(ordered)
        self.count, self.tip = len(ordered), ordered[-1].record.digest if ordered else None

    def _fill(self, ordered: Sequence[StoredRecord]) -> None:
        self._notes.executescript(f"BEGIN; {_TABLE}")
        self._insert(ordered, 1)

    def _insert(self, stored: Sequence[StoredRecord], first: int) -> None:
        marks = ", ".join("?" * len(_COLUMNS.split(",")))
        self._notes.executemany(
            f"INSERT INTO records (number, {_COLUMNS}) VALUES (?, {marks})",
            [(number, *_row(*item)) for number, item in enumerate(stored, start=first)],
        )
        self._notes.commit()

    def _related(self, records: Sequence[RunRecord]) -> dict[int, tuple[Any, ...]]:
        """Rows of the table by number, see `about`."""
        found = self._rows("look", {appearance(record.name) for record in records})
        more, named = found, {record.job.get("corrects") for record in records}
        while more or named:
            named |= {row[5] for row in more.values()}
            targets = self._rows("digest", named)
            corrections = self._rows("corrects", {row[7] for row in (more | targets).values()})
            both = targets | corrections
            more, named = (
                {number: row for number, row in both.items() if number not in found},
                set(),
            )
            found = found | more
        return found

    def _rows(self, column: str, values: Iterable[str | None]) -> dict[int, tuple[Any, ...]]:
        """Rows with these values by their numbers."""
        asked = sorted({value for value in values if value is not None})
        found: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(asked), _MANY):
            some = asked[start : start + _MANY]
            marks = ", ".join("?" * len(some))
            question = f"SELECT number, {_COLUMNS} FROM records WHERE {column} IN ({marks})"
            found |= {row[0]: row[1:] for row in self._notes.execute(question, some)}
        return found


@contextmanager
def ledger_index(folder: Path, names: Sequence[str], *, keep: bool) -> Iterator[LedgerIndex]:
    """The notes of a ledger, which is locked; see `LedgerIndex`."""
    index = LedgerIndex(folder, names, keep=keep)
    try:
        yield index
    finally:
        index.close()


def _is_ours(path: Path) -> bool:
    """Whether the file holds notes, or nothing as after a death; older ones are taken away."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:
            head = file.read(100)
        if head.startswith(_OLDER):
            path.unlink()
            return True
    except OSError:
        return False
    return not head or (head.startswith(_MAGIC) and int.from_bytes(head[68:72], "big") == _OWN)


def _row(record: RunRecord, path: Path) -> tuple[str | None, ...]:
    split, corrects = record.inputs.get("split"), record.job.get("corrects")
    look = appearance(record.name)
    names = (path.name, record.kind, record.name, look, split, corrects)
    return (*names, record.previous, record.digest)


def _outline(row: tuple[Any, ...]) -> RunRecord:
    _, kind, name, _, split, corrects, previous, digest = row
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
