"""The lock between processes that work on one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from eigenforget.core.errors import NotWritten


@contextmanager
def held(lock: Path, *, wait: bool) -> Iterator[bool]:
    """Yields whether this process has the lock.

    The lock is the operating system's, so a process that dies leaves none behind.

    Args:
        lock: The file to lock; it and the folders above it are made.
        wait: Whether to wait for another process that has it.

    Raises:
        NotWritten: There can be no such file.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        own = FileLock(lock, timeout=-1 if wait else 0)
        own.acquire()
    except Timeout:  # an OSError as well
        yield False
        return
    except OSError as error:
        raise NotWritten(f"{lock}: cannot be written: {error.strerror or error}") from None
    try:
        yield True
    finally:
        own.release()
