"""`eigenforget cache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from eigenforget.cli import benching_ as benching

cache = App(
    name="cache",
    help="Look after the trained models that a store keeps.",
    result_action="return_value",
)

StoreFolder = Annotated[Path, Parameter(help="the folder of a store, or of trained models")]


@cache.command(name="list")
def list_models(folder: StoreFolder, /) -> None:
    """The models that are kept, the longest unused first."""
    benching.list_cache(folder)


@cache.command
def prune(
    folder: StoreFolder,
    /,
    *,
    max_size: Annotated[str, Parameter(help="what may stay, such as 20G, 500M or 0")],
) -> None:
    """Remove the models that were longest unused, until the rest fits."""
    benching.prune_cache(folder, max_size)


@cache.command
def check(folder: StoreFolder, /) -> None:
    """Read every model and compare it with its digest. Exit code 1 where one is damaged."""
    raise SystemExit(benching.check_cache(folder))
