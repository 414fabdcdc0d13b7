"""Objects of the user's own code by path: `file.py:Name` or `package.module:Name`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
import weakref
from importlib.abc import SourceLoader
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import displayed, first_line

_OWN = "_eigenforget_"
"""Begins the names of modules that are files of the user's own."""


def imported(path: str, what: str) -> Any:
    """The object at a path.

    A file is run when it is first used, and again when its content has changed. It can import the
    modules beside it.

    Args:
        path: `file.py:Name`, relative to the working directory, or `package.module:Name`.
        what: What the path is for, such as "method", for messages.

    Raises:
        EigenforgetError: The path has another form or cannot be imported, or the name is not in it.
    """
    # A spec may hold anything in the place of the path.
    where, _, attribute = path.rpartition(":") if isinstance(path, str) else ("", "", "")
    if not where or not attribute:
        raise EigenforgetError(
            f"{what} needs path='file.py:Name' or path='package.module:Name', got {displayed(path)}"
        )
    try:
        module = _of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except (Exception, SystemExit) as error:  # whatever the user's code raises when it is run
        plain = isinstance(error, (ImportError, SyntaxError, ValueError))
        said = first_line(error) if plain else f"{type(error).__name__}: {first_line(error)}"
        hint = "" if where.endswith(".py") else " (for a file of yours say file.py:Name)"
        raise EigenforgetError(
            f"{what} {displayed(path)} cannot be imported: {said}{hint}"
        ) from error
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise EigenforgetError(
            f"{what} {displayed(path)}: {where} has no {attribute!r}{hint}"
        ) from None


class _Content(SourceLoader):
    """Runs what was read, never bytecode: that of a file changed within a second looks valid."""

    def __init__(self, file: str, content: bytes) -> None:
        self._file, self._content = file, content

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        """Where the module is, for messages and tracebacks."""
        return self._file

    def get_data(self, path: str) -> bytes:  # noqa: ARG002
        """The source."""
        return self._content


def _of_file(file: Path) -> ModuleType:
    """The module of a Python file, run once for each content of it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImportError(f"{file}: {error.strerror}") from None
    place = file.resolve()
    digest = hashlib.sha256(str(place).encode() + content).hexdigest()[:16]
    name = f"{_OWN}{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Content(str(file.absolute()), content)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    made = importlib.util.module_from_spec(spec)
    # Under its name, because pickles and dataclasses look their module up; beside its neighbours,
    # which it may import.
    sys.modules[name] = made
    sys.path.insert(0, str(place.parent))
    done = False
    try:
        spec.loader.exec_module(made)
        done = True
    finally:
        sys.path.remove(str(place.parent))
        if not done:
            del sys.modules[name]
    return made


def place_in_own_file(error: BaseException) -> str | None:
    """The "FILE, line N" where a file of the user's own raised an error; None if none did."""
    places = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(_OWN)
    ]
    return places[-1] if places else None


_PATHS: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def note_path(kind: type, path: str) -> None:
    """Remembers by which path the user named a class, so that its specs can be spelled."""
    _PATHS[kind] = path


def path_of(kind: type) -> str | None:
    """The path by which the user named this class; None for a class that has a name of its own."""
    return _PATHS.get(kind)
