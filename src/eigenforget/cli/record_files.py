"""Helpers of commands that read records and write documents from them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eigenforget.core.errors import EigenforgetError
from eigenforget.record import RunRecord, read, read_folder, write_text


def read_all(paths: Iterable[Path]) -> list[RunRecord]:
    """The records of files and folders."""
    return [r for path in paths for r in (read_folder(path) if path.is_dir() else [read(path)])]


def check_free(out: Path | None, overwrite: bool) -> None:
    """Checks that a document may be written.

    Raises:
        EigenforgetError: The file exists, and `overwrite` is false.
    """
    if out is not None and out.exists() and not overwrite:
        raise EigenforgetError(f"{out} exists; use --overwrite to replace it")


def give(text: str, out: Path | None) -> None:
    """Writes a document to its file, or prints it if there is no file."""
    if out is None:
        print(text, end="")
        return
    write_text(out, text)
    print(f"wrote {out}")
