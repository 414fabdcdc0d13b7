"""`eigenforget export`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from eigenforget.cli.options import OutFile, Overwrite, RecordPaths
from eigenforget.cli.record_files import check_free, give, read_all
from eigenforget.core.errors import EigenforgetError
from eigenforget.report.pages import export as formats


def export(
    records: RecordPaths,
    /,
    *,
    format: Annotated[
        Literal["csv", "parquet", "markdown", "latex"], Parameter(help="format of the table")
    ],
    out: OutFile = None,
    score: Annotated[
        tuple[str, ...],
        Parameter(
            help="score to write; repeatable; default: all, or the main ones in documents",
            negative=(),
        ),
    ] = (),
    overwrite: Overwrite = False,
) -> None:
    """Write the table of evaluate records for other tools.

    Each score comes with its gap to the retrained models and its verdict.

    Example:
        eigenforget export results/records --format csv --out scores.csv
    """
    check_free(out, overwrite)
    found = read_all(records)
    if format != "parquet":
        writers = {
            "csv": formats.to_csv,
            "markdown": formats.to_markdown,
            "latex": formats.to_latex,
        }
        give(writers[format](found, score), out, overwrite=overwrite)
        return
    if out is None:
        raise EigenforgetError("--format parquet needs a file: -o FILE")
    formats.write_parquet(found, out, score, overwrite=overwrite)
    print(f"wrote {out}")
