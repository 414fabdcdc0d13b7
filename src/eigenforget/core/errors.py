"""Errors of the package. Importing this module loads nothing else."""


class EigenforgetError(ValueError):
    """The user's input is wrong. The message is one line that names the value and what is allowed."""


class Refused(EigenforgetError):
    """A method or metric is not for this task; the message says what it needs."""


class Diverged(EigenforgetError):
    """Training produced a non-finite loss or weight; nothing of it may be saved."""


class NotWritten(EigenforgetError):
    """A file could not be written, as where a disk is full; what was there before is whole."""
