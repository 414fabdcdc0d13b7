"""Commands that write certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import Overwrite, app
from eigenforget.core.errors import EigenforgetError


@app.command
def certificate(
    record: Annotated[
        Path, Parameter(help="an unlearn record, or an evaluate record of an unlearned model")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="the HTML file")] = Path(
        "certificate.html"
    ),
    evaluated: Annotated[
        Path | None,
        Parameter(
            help="folder of records measured together: scores, bands and checks come from it"
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a deletion certificate: one record on one printable page, with what is not claimed as
    large as what is.
    """
    from eigenforget.record import read, read_folder, write_text
    from eigenforget.report.pages.certificate import render_certificate, signed_by

    if out.exists() and not overwrite:
        raise EigenforgetError(f"{out} exists; say --overwrite to replace it")
    if record.is_dir():
        raise EigenforgetError(f"{record} is a folder; a certificate is of one record")
    found = read(record)
    beside = None if evaluated is None else read_folder(evaluated)
    write_text(out, render_certificate(found, evaluated=beside, signature=signed_by(found, record)))
    print(f"wrote {out}")
