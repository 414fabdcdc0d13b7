"""Helpers of commands that read records and write documents from them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eigenforget.record import (
    RunRecord,
    check_place,
    read,
    read_folder,
    recover_near,
    write_text,
)
from eigenforget.record.manifest import is_manifest


def read_all(paths: Iterable[Path]) -> list[RunRecord]:
    """The records of files and folders; ids of a split, as among *.json, are passed over."""
    paths = [path for path in paths if not is_manifest(path)]
    for path in paths:
        recover_near(path)
    return [r for path in paths for r in (read_folder(path) if path.is_dir() else [read(path)])]


def check_free(out: Path | None, overwrite: bool) -> None:
    """Checks that a document may be written.

    Raises:
        RecordError: The file exists, and `overwrite` is false, or it cannot be written.
    """
    if out is not None:
        check_place(out, overwrite=overwrite)


def give(text: str, out: Path | None, *, overwrite: bool) -> None:
    """Writes a document to its file, or prints it if there is no file.

    Raises:
        RecordError: The file exists, and `overwrite` is false, or it cannot be written.
    """
    if out is None:
        print(text, end="")
        return
    write_text(out, text, overwrite=overwrite)
    print(f"wrote {out}")
