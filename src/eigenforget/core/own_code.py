"""Which files the user's own code consists of: a file, and what it imports from beside itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def is_of_this_package(kind: type) -> bool:
    """Whether a class is ours, and not the user's or another package's."""
    return str(kind.__module__).partition(".")[0] == __name__.partition(".")[0]


def modules_beside(file: Path, package: str = "") -> dict[str, Path]:
    """Files that a Python file imports from its own folder, those that these import included.

    Args:
        file: The file. One that cannot be read or parsed imports nothing.
        package: The package that it is in, if it is a module of one; then these are the modules of
            the same top-level package.

    Returns:
        Each file by the name under which it is imported, such as "losses" or "parts.losses".
    """
    levels = package.count(".") + 1 if package else 0
    folder, top, found = file.parents[levels], package.partition(".")[0], dict[str, Path]()
    pending = [(file, package)]
    while pending:
        at, within = pending.pop()
        for name in _imports(at, within):
            for part in _prefixes(name) if not top or name.partition(".")[0] == top else ():
                place = _place(folder, part)
                if place is not None and place != file and part not in found:
                    found[part] = place
                    inside = part if place.name == "__init__.py" else part.rpartition(".")[0]
                    pending.append((place, inside))
    return dict(sorted(found.items()))


def _imports(file: Path, package: str) -> Iterator[str]:
    """Absolute names of all that a file may import, wherever the import stands in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".") if package and node.level else []
            above = above[: len(above) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def _prefixes(name: str) -> Iterator[str]:
    """The module itself, and each package that is imported on the way to it."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _place(folder: Path, name: str) -> Path | None:
    """The file of a module below the folder; None where it is no module of this folder."""
    at = folder.joinpath(*name.split("."))
    for place in (at / "__init__.py", at.with_name(f"{at.name}.py")):
        if place.is_file():
            return place
    return None
