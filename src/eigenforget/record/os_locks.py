"""Locks of the operating system on open files: they end with the process that holds them."""

from __future__ import annotations

import errno
import sys

_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        # flock belongs to the open file and so keeps threads apart as well; lockf belongs to the
        # process.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(handle: int) -> bool:
    """Locks an open file, until it is closed, unless another has locked it.

    Returns:
        Whether it is ours.

    Raises:
        OSError: The file system knows no locks.
    """
    try:
        _lock(handle)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
