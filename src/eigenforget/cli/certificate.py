"""`eigenforget certificate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import OutPage, Overwrite, OwnChecks
from eigenforget.cli.record_files import check_free, give
from eigenforget.cli.terminal import say
from eigenforget.core.errors import EigenforgetError
from eigenforget.record import read, read_folder, record_files
from eigenforget.report.pages.certificate import render_certificate, signed_by


def certificate(
    record: Annotated[
        Path, Parameter(help="an unlearn record, or an evaluate record of an unlearned model")
    ],
    /,
    *,
    out: OutPage = Path("certificate.html"),
    evaluated: Annotated[
        Path | None,
        Parameter(
            help="folder of records that were measured together, which give verdict, bands and "
            "checks; by default the folder of an evaluate record"
        ),
    ] = None,
    check: OwnChecks = (),
    overwrite: Overwrite = False,
) -> None:
    """Make a deletion certificate from one record, as one printable page.

    Its title says so where the verdict is not "like a retrained model", or where there is none.
    What it does not claim is printed as prominently as what it claims.

    Example:
        eigenforget certificate unlearned.json --evaluated results/records --out certificate.html
    """
    check_free(out, overwrite)
    if record.is_dir():
        raise EigenforgetError(f"{record} is a folder; a certificate describes one record")
    found = read(record)
    if evaluated is None and found.kind == "evaluate" and len(record_files(record.parent)) > 1:
        evaluated = record.parent
        say(f"verdict and bands: from the records in {evaluated}")
    beside = None if evaluated is None else read_folder(evaluated)
    page = render_certificate(
        found, evaluated=beside, signature=signed_by(found, record), own_checks=check
    )
    give(page, out, overwrite=overwrite)
