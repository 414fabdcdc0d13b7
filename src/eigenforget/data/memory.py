"""How much memory there is, for files whose headers promise more."""

from __future__ import annotations

import os

from eigenforget.core.errors import EigenforgetError


def check_fits(size: int, what: str) -> None:
    """Checks, before anything is unpacked, that so many bytes can be held.

    Args:
        size: The bytes that a header promises.
        what: The file, for the message.

    Raises:
        EigenforgetError: They are more than the memory of this machine.
    """
    memory = _memory()
    if memory is not None and size > memory:
        raise EigenforgetError(
            f"{what}: holds {size:,} bytes, and this machine has {memory:,} bytes of memory"
        )


def _memory() -> int | None:
    """Bytes of memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
