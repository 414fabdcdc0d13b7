"""What was inferred, and doubts that are no errors.

A doubt is a Python warning, and stands in the record of the run. What was inferred without one is
said in a line of the log.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOG = logging.getLogger("eigenforget")
_LINES: ContextVar[list[str] | None] = ContextVar("lines", default=None)


class EigenforgetWarning(UserWarning):
    """A doubt about what was given; the message is one line with what was assumed and the cure."""


def warn(line: str) -> None:
    """Warns with one line, at the caller's code outside this package.

    It is collected for the record as well, once. It names no sample.

    Args:
        line: What is in doubt, what was assumed, and what settles it.
    """
    lines = _LINES.get()
    if lines is not None and line not in lines:
        lines.append(line)
    warnings.warn(line, EigenforgetWarning, stacklevel=_level_outside())


def inform(line: str) -> None:
    """Says what was inferred and what overrides it.

    The line goes to the logger "eigenforget" at level INFO. In a program that has set up no logging
    it goes to standard error; logging.getLogger("eigenforget").setLevel("WARNING") keeps it back.
    """
    _LOG.info("%s", line)
    if _LOG.level <= logging.INFO and not _LOG.hasHandlers():
        print(f"eigenforget: {line}", file=sys.stderr)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Yields the list of the lines that `warn` is given within the block, in order, each once.

    An outer block gets them too, when the inner one ends.
    """
    outer, lines = _LINES.get(), list[str]()
    token = _LINES.set(lines)
    try:
        yield lines
    finally:
        _LINES.reset(token)
        if outer is not None:
            outer.extend(line for line in lines if line not in outer)


def so_far() -> list[str]:
    """The lines of the innermost block until now; none outside of one."""
    return list(_LINES.get() or ())


def _level_outside() -> int:
    """The stack level, as `warnings.warn` counts, of the first frame outside this package."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 (the standard library's own way)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level
