"""A folder to which records are only appended: one chain, however many processes append to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from .canonical import RecordError
from .files import check_place, slug
from .ledger_index import ledger_index
from .os_locks import try_lock
from .schema import RunRecord
from .store import (
    StoredRecord,
    content_problems,
    in_force,
    record_names,
    seal,
    subject,
    write,
)
from .transactions import Transaction, recover, transaction

LOCK = ".lock"


def append(
    folder: str | Path, unsealed: RunRecord, name: str = "", *, again: bool = False
) -> RunRecord:
    """Seals a record behind the newest one of a folder and writes it as NUMBER-NAME.json.

    The folder is made where it is missing. It stays locked from reading its tip until the record is
    written, so that two processes cannot take the same predecessor. Of the records that are there
    the newest is read, and all where the notes on the others do not fit the folder (see
    `ledger_index`); `verify` always reads all.

    Args:
        folder: The ledger.
        unsealed: The record.
        name: Of the file; by default the name of the record.
        again: A model that was evaluated on this split before is evaluated again: the new record
            says that it corrects the earlier one.

    Returns:
        The sealed record.

    Raises:
        RecordError: The chain of the folder is broken, or the record would break it. A second
            evaluation of the same model and split must say which record it corrects.
    """
    with transaction(overwrite=False) as step:
        (sealed,) = append_all(folder, [unsealed], step, names=[name or unsealed.name], again=again)
    return sealed


def append_all(
    folder: str | Path,
    unsealed: Sequence[RunRecord],
    step: Transaction,
    *,
    names: Sequence[str] = (),
    again: bool = False,
) -> list[RunRecord]:
    """Appends several records as part of a transaction, as `append` does one.

    The folder stays locked until the transaction is done.

    Args:
        folder: The ledger.
        unsealed: The records, in order.
        step: What they are written with: all of it, or nothing.
        names: Of the files; by default the names of the records.
        again: As for `append`.

    Returns:
        The sealed records.
    """
    draft, folder = step.folder(folder, recovers=False), Path(folder)
    step.hold(locked(folder))
    names_there = recover(folder, besides=draft.parent.name)  # the only look at all names
    added: list[StoredRecord] = []
    with ledger_index(folder, record_names(folder, names_there), keep=True) as index:
        known = index.about(unsealed)
        for item, name in zip(unsealed, names or [item.name for item in unsealed], strict=True):
            record = _corrected(item, [*known, *added]) if again else item
            sealed = seal(record, added[-1].record.digest if added else index.tip)
            file = f"{index.count + len(added) + 1:06d}-{slug(name)}.json"
            if (folder / file).exists():
                raise RecordError(f"{folder / file}: exists already; records are appended")
            added.append(StoredRecord(sealed, folder / file))
            write(sealed, draft / file)
        if problems := content_problems([*known, *added]):
            raise RecordError(problems[0])
        index.add(added)
    return [item.record for item in added]


def check_ledger(folder: str | Path) -> None:
    """Checks that records can be appended to a folder.

    Raises:
        RecordError: It is a file or cannot be written, or its chain is broken.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"{folder}: is a file; a ledger is a folder")
    check_place(folder, overwrite=False, folder=True)
    if folder.exists():
        with locked(folder), ledger_index(folder, record_names(folder), keep=False):
            pass  # it reads what has to be read


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of the folder: another process or thread waits.

    It is a lock of the operating system on the file .lock, which ends with the process that holds
    it. A file whose mere existence is the lock would outlive a killed process, and every rule for
    when it is stale can be wrong. The file stays: removing it would let one process lock a file
    that another has just unlinked. On a network file system it needs locks that the network carries
    (NFS 4, SMB).
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RecordError(f"{folder / LOCK}: cannot be opened: {error.strerror or error}") from None
    try:
        _wait_for(handle, folder / LOCK)
        yield
    finally:
        os.close(handle)  # and with it the lock


def _wait_for(handle: int, path: Path) -> None:
    try:
        while not try_lock(handle):
            time.sleep(0.005)
    except OSError as error:
        raise RecordError(f"{path}: cannot be locked: {error.strerror or error}") from None


def _corrected(unsealed: RunRecord, ordered: Sequence[StoredRecord]) -> RunRecord:
    """The record with job["corrects"], where it evaluates what another one in force did."""
    if unsealed.kind != "evaluate" or "corrects" in unsealed.job:
        return unsealed
    about = [
        r
        for r in in_force([item.record for item in ordered])
        if r.kind == "evaluate" and subject(r) == subject(unsealed)
    ]
    return (
        replace(unsealed, job={**unsealed.job, "corrects": about[-1].digest}) if about else unsealed
    )
