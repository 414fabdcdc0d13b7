"""Reads files that others made: only regular ones, and no more of them than fits in memory."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .canonical import RecordError

MOST_BYTES = 64 << 20
"""Of a record."""
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC", "O_NOCTTY")
)
"""Without O_NONBLOCK, opening a pipe waits until someone writes into it."""


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """The file, open for reading.

    Raises:
        RecordError: It cannot be read, or is no regular file: a pipe would block, and a device has
            no end. The message names it.
    """
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unread(path, error) from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise RecordError(f"{path}: cannot be read: it is {what}")
    with os.fdopen(handle, "rb") as file:
        try:
            yield file
        except OSError as error:
            raise _unread(path, error) from None


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file.

    Raises:
        RecordError: It cannot be read, or has more than `most` bytes; the message names it.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        found = file.read() if size <= most else b""  # read(most) would take so much memory
    if max(size, len(found)) > most:
        raise RecordError(f"{path}: cannot be read: it has more than {most} bytes")
    return found


def read_json(path: Path, most: int = MOST_BYTES) -> tuple[Any, bytes]:
    """The value in a JSON file, and the bytes of the file.

    Raises:
        RecordError: The file cannot be read or is no whole JSON text; the message names it.
    """
    content = read_bytes(path, most)
    try:
        return json.loads(content.decode()), content
    except (ValueError, RecursionError):
        raise RecordError(f"{path}: not a whole JSON text (truncated or damaged)") from None


def check_canonical(path: Path, content: bytes, written: str) -> None:
    """Checks that the bytes of a file are those that were written.

    Raises:
        RecordError: They are not; the message names the file.
    """
    if content != written.encode():
        raise RecordError(f"{path}: not in canonical form (changed after writing)")


def _unread(path: str | Path, error: Exception) -> RecordError:
    return RecordError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
