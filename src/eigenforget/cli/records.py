"""Commands that read records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import (
    Overwrite,
    app,
)
from eigenforget.errors import EigenforgetError


@app.command
def report(
    records: Annotated[tuple[Path, ...], Parameter(help="record files or folders of them", negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="the HTML file")] = Path("report.html"),
    title: str = "eigenforget report",
    overwrite: Overwrite = False,
) -> None:
    """Make one self-contained HTML page from evaluate records."""
    from eigenforget.record import read, read_folder
    from eigenforget.report import write_page

    if not records:
        raise EigenforgetError("report needs record files, or a folder of them")
    if out.exists() and not overwrite:
        raise EigenforgetError(f"{out} exists; say --overwrite to replace it")
    found = [r for path in records for r in (read_folder(path) if path.is_dir() else [read(path)])]
    write_page(found, out, title)
    print(f"wrote {out}")


@app.command
def verify(records: Annotated[tuple[Path, ...], Parameter(help="record files or folders", negative=())], /) -> None:
    """Check the digests and the chain of records."""
    from eigenforget.record import verify as check

    raise SystemExit(check.main([str(path) for path in records]))
