"""Objects of the user's own code by path: `file.py:Name` or `package.module:Name`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
import weakref
from importlib.abc import SourceLoader
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.own_code import modules_beside
from eigenforget.core.text import displayed, first_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_OWN = "_eigenforget_"
"""Begins the names of modules that are files of the user's own."""


def imported(path: str, what: str) -> Any:
    """The object at a path.

    A file is run when it is first used, and again when its content, or that of a module beside it
    that it imports, has changed.

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
        place = place_in_own_file(error)
        said = said if place is None else f"{place}: {said}"
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


def of_entry_point(point: EntryPoint, what: str) -> Any:
    """The object that an installed package declares.

    Args:
        point: Where it is.
        what: What it is, such as "method", for messages.

    Raises:
        EigenforgetError: It cannot be imported.
    """
    try:
        return imported(point.value.partition("[")[0].strip(), what)
    except EigenforgetError as error:
        raise EigenforgetError(
            f"the {what} {point.name!r} of entry point {point.value!r} cannot be loaded: {error}; "
            "uninstall or repair the package that declares it"
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
    """The module of a Python file, run once for each content of it and of those it imports."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImportError(f"{file}: {error.strerror}") from None
    place = file.resolve()
    beside = modules_beside(place)
    contents = {name: other.read_bytes() for name, other in beside.items()}
    digest = hashlib.sha256(b"\0".join((str(place).encode(), content, *contents.values())))
    name = f"{_OWN}{file.stem}_{digest.hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Content(str(file.absolute()), content)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    made = importlib.util.module_from_spec(spec)
    _forget_changed(beside, contents)
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
        for other, file in beside.items():
            if _is_of(sys.modules.get(other), file):
                _BESIDE[other] = sys.modules[other], file, contents[other]
    return made


def _is_of(module: ModuleType | None, file: Path) -> bool:
    where = getattr(module, "__file__", None)
    return where is not None and Path(where).resolve() == file


_BESIDE: dict[str, tuple[ModuleType, Path, bytes]] = {}
"""Modules that a file imported from beside itself: the module, its file, and what was in that."""


def _forget_changed(beside: dict[str, Path], contents: dict[str, bytes]) -> None:
    """Unloads modules of these names that another folder or an earlier content gave.

    Two files of the user's may each have a utils.py beside them. What imported a module keeps it,
    and modules that came in another way stay.
    """
    for name, file in beside.items():
        module, *made_of = _BESIDE.get(name, (None,))
        if module is not None and made_of != [file, contents[name]]:
            if sys.modules.get(name) is module:
                del sys.modules[name]
            del _BESIDE[name]


def place_in_own_file(error: BaseException) -> str | None:
    """The "FILE, line N" where a file of the user's own raised an error; None if none did.

    A file below the working directory is named from there.
    """
    here = f"{Path.cwd()}{os.sep}"
    places = [
        f"{frame.f_code.co_filename.removeprefix(here)}, line {line}"
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
