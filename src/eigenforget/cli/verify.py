"""`eigenforget verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.record import verify as checks


def verify(
    records: Annotated[
        tuple[Path, ...],
        Parameter(help="record files, or folders that hold one chain each", negative=()),
    ],
    /,
    *,
    files: Annotated[
        tuple[Path, ...],
        Parameter(help="folder to search for the files that records name; repeatable", negative=()),
    ] = (),
    public_key: Annotated[
        Path | None, Parameter(help="PEM file: every record must be signed with this key")
    ] = None,
    expect_tip: Annotated[
        str | None,
        Parameter(help="digest that was noted elsewhere, which must be in the folder's chain"),
    ] = None,
    strict: Annotated[
        bool, Parameter(help="treat anything that could not be checked as an error", negative=())
    ] = False,
    json: Annotated[bool, Parameter(help="print one JSON object", negative=())] = False,
) -> None:
    """Check records, their chain and signatures, and the files that they name.

    The last line is the answer. Exit code 2 if anything was changed after it was written. Without
    torch installed, run python -m eigenforget.record.verify.

    Example:
        eigenforget verify results/records --files .
    """
    options = checks.Options(files, public_key, expect_tip, strict)
    raise SystemExit(checks.print_findings(records, options, as_json=json))
