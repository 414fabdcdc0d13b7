"""`eigenforget report`."""

from __future__ import annotations

from pathlib import Path

from eigenforget.cli.options import OutPage, Overwrite, OwnChecks, RecordPaths
from eigenforget.cli.record_files import check_free, give, read_all
from eigenforget.core.errors import EigenforgetError
from eigenforget.report import render


def report(
    records: RecordPaths,
    /,
    *,
    out: OutPage = Path("report.html"),
    title: str = "eigenforget report",
    check: OwnChecks = (),
    overwrite: Overwrite = False,
) -> None:
    """Make one self-contained HTML page from evaluate records.

    Example:
        eigenforget report results/records --out report.html
    """
    if not records:
        raise EigenforgetError("report needs record files, or a folder of them")
    check_free(out, overwrite)
    give(render(read_all(records), title, check), out, overwrite=overwrite)
