"""How a command ends: exit code, one line on standard error, a file about what is unexpected."""

from __future__ import annotations

import difflib
import logging
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError
from rich.console import Console

from eigenforget.cli.launching import let_first_speak, prefix
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import place_in_own_file
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.core.text import as_line, first_line, listed
from eigenforget.core.version import __version__
from eigenforget.record import RecordError

WRONG, UNEXPECTED, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
"""Exit codes: wrong input, a fault of this package, Ctrl-C, and a reader that went away."""
_FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_LONGEST = 500


class Terminal(Console):
    """A console that leaves it to `exit_code` what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        """Rich would end with exit code 1, which has another meaning here."""
        self.quiet = True
        raise BrokenPipeError


def exit_code(error: BaseException, arguments: Sequence[str]) -> int:
    """Says in one line on standard error why a command ends, and returns its exit code."""
    if isinstance(error, BrokenPipeError):
        _close_output()
        return PIPE_CLOSED
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    let_first_speak()
    expected = _expected(error)
    line = _report(error, arguments) if expected is None else expected
    print(f"eigenforget: {prefix()}{as_line(line)}", file=sys.stderr)
    return UNEXPECTED if expected is None else WRONG


class _Informing(logging.Handler):
    """Prints what was inferred (`notices.inform`) as one line on standard error, once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = as_line(record.getMessage())
        if line not in self._said:
            self._said.add(line)
            print(f"{prefix()}{line}", file=sys.stderr)


@contextmanager
def _informed() -> Iterator[None]:
    logger, handler = logging.getLogger("eigenforget"), _Informing()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def plain_output() -> Iterator[None]:
    """Prints warnings as one line each, once, and characters that the terminal lacks as escapes.

    Warnings for developers of other packages are not shown, unless Python is told to.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    said: set[str] = set()

    def plainly(message: Warning | str, category: type[Warning], *_: Any, **more: Any) -> None:
        del more
        line = as_line(str(message))
        if not issubclass(category, EigenforgetWarning):
            line = _short(line)
        if line not in said:
            said.add(line)
            print(f"warning: {prefix()}{line}", file=sys.stderr)

    with _informed(), warnings.catch_warnings():
        warnings.simplefilter("always", EigenforgetWarning)
        for category in () if sys.warnoptions else _FOR_DEVELOPERS:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = plainly
        try:
            yield
        finally:
            _flush_output()


def _flush_output() -> None:
    """Writes out what was printed: where that fails, it fails here and not while Python ends."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _close_output()
        error.filename = error.filename or "standard output"
        raise


def _expected(error: BaseException) -> str | None:
    """The line about an error that a user can meet; None where this package is at fault."""
    if isinstance(error, UnusedCliTokensError):
        command = " ".join(error.command_chain or ())
        unused = listed(error.unused_tokens or ())
        return f"{command} takes no {unused} here; see eigenforget {command} --help"
    if isinstance(error, MissingArgumentError):
        return _missing(error)
    if isinstance(error, (CycloptsError, EigenforgetError, RecordError)):
        return str(error)
    text = str(error)
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY))
    ):
        return (
            f"out of memory ({first_line(error)}): take a smaller batch_size, model or "
            "data set, or a machine with more memory"
        )
    own = place_in_own_file(error)
    if own is not None:
        return f"{own}: {type(error).__name__}: {first_line(error)}"
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror or _short(text) or type(error).__name__}"
    return None


def _missing(error: MissingArgumentError) -> str:
    """The line about an option or a word that is not there, or that has no value."""
    command, argument = " ".join(error.command_chain or ()), error.argument
    if argument is None:
        return str(error)
    choices = get_args(argument.hint) if get_origin(argument.hint) is Literal else ()
    words = [argument.parameter.help, ", ".join(choices)]
    about = "".join(f": {text}" for text in words if text)
    if error.keyword is not None:
        return f"{command}: {error.keyword} was given without a value{about}"
    options = [word for word in error.unused_tokens or () if word.startswith("-")]
    for word in difflib.get_close_matches(argument.name, options, n=1):
        return f"{command} takes no {word} (did you mean {argument.name}?)"
    by_place = argument.field_info.is_positional
    name = argument.name.lstrip("-").upper() if by_place else argument.name
    return f"{command} needs {name}{about}"


def _report(error: BaseException, arguments: Sequence[str]) -> str:
    """Writes the traceback to a new file, and returns the line that names it."""
    what = f"unexpected {type(error).__name__}: {first_line(error)}"
    text = "\n".join(
        (
            f"eigenforget {__version__}, Python {platform.python_version()}, {platform.platform()}",
            *(f"{name} {version}" for name, version in _versions()),
            shlex.join(("eigenforget", *arguments)),
            "",
            *traceback.format_exception(error),
        )
    )
    path = _new_file(text)
    if path is None:
        print(text, file=sys.stderr)
        return f"{what}. This is a fault of eigenforget: please report it with the text above"
    return (
        f"{what}. This is a fault of eigenforget: please report it with {path}, which holds the "
        "command line, versions and the traceback"
    )


def _versions() -> Iterator[tuple[str, str]]:
    for name in ("torch", "numpy", "safetensors", "cyclopts"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            yield name, str(version)


def _new_file(text: str) -> Path | None:
    """A file of its own here, or where temporary files go; None where neither can be written."""
    name = f"eigenforget-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for folder in (".", tempfile.gettempdir()):
        for number in range(100):
            path = Path(folder, f"{name}{f'-{number}' if number else ''}.txt")
            try:
                with open(path, "x", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)
                return path
            except FileExistsError:
                continue
            except OSError:
                break
    return None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _close_output() -> None:
    """Keeps Python from trying to write once more while it ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
