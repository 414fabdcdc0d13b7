"""Errors of the package. Importing this module loads nothing heavy."""

from collections.abc import Iterator
from contextlib import contextmanager

from eigenforget.core.text import as_line


class EigenforgetError(ValueError):
    """The user's input is wrong. The message is one line with the value and what is allowed."""

    def __str__(self) -> str:
        return as_line(super().__str__(), 4000)


class Refused(EigenforgetError):  # noqa: N818 (a short public name)
    """A method or metric is not for this task; the message says what it needs."""


class Diverged(EigenforgetError):  # noqa: N818 (a short public name)
    """Training produced a non-finite loss or weight; nothing of it may be saved."""


class NotWritten(EigenforgetError):  # noqa: N818 (a short public name)
    """A file could not be written, as where a disk is full; what was there before is whole."""


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors within the block begin with what they are about, once; "" leaves them as they are."""
    try:
        yield
    except EigenforgetError as error:
        line = str(error)
        if line.startswith(what):
            raise
        raise type(error)(f"{what}: {line}") from None
