"""`eigenforget card`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import OutFile, Overwrite, OwnChecks, RecordPaths
from eigenforget.cli.record_files import check_free, give, read_all
from eigenforget.report.pages.card import model_card


def card(
    records: RecordPaths,
    /,
    *,
    out: OutFile = None,
    model: Annotated[
        str, Parameter(help="model that the card describes; default: all unlearned models")
    ] = "",
    check: OwnChecks = (),
    overwrite: Overwrite = False,
) -> None:
    """Write a model card for the Hugging Face hub.

    The card states what was forgotten, how it was measured, what is claimed, and how to check that.

    Example:
        eigenforget card results/records --out README.md
    """
    check_free(out, overwrite)
    give(model_card(read_all(records), model, check), out, overwrite=overwrite)
