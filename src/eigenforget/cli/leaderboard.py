"""`eigenforget leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli import benching_ as benching
from eigenforget.core.errors import EigenforgetError


def leaderboard(
    folders: Annotated[
        tuple[Path, ...], Parameter(help="folders with results of plans", negative=())
    ],
    /,
    *,
    into: Annotated[
        Path | None,
        Parameter(help="document with the marks between which the table goes; default: print it"),
    ] = None,
) -> None:
    """One table over the results of plans: how many scores of each method lie in the retrained
    models' band, at what cost.
    """
    if not folders:
        raise EigenforgetError("leaderboard needs a folder with results of a plan")
    benching.write_leaderboard(folders, into)
