"""Commands for plans of many runs, for the models that they share, and for one table over them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from eigenforget.cli.options import Device, app

cache = App(
    name="cache",
    help="Look after the trained models that a store keeps.",
    result_action="return_value",
)
app.command(cache)

StoreFolder = Annotated[Path, Parameter(help="the folder of a store, or of trained models")]


@app.command
def bench(
    plan: Annotated[
        Path, Parameter(help="TOML file: what is crossed with what; see docs/bench.md")
    ],
    /,
    *,
    store: Annotated[
        Path, Parameter(help="folder that keeps models and finished cells, for any number of plans")
    ] = Path("store"),
    out: Annotated[
        Path | None, Parameter(help="folder of the results; default: results/NAME-OF-THE-PLAN")
    ] = None,
    backend: Annotated[str, Parameter(help="processes, sequential, ray or slurm")] = "processes",
    workers: Annotated[
        int | None, Parameter(help="how many at once; default: one for each processor core")
    ] = None,
    threads: Annotated[
        int | None, Parameter(help="processor threads of a worker; default: cores over workers")
    ] = None,
    device: Device = "auto",
    retry: Annotated[
        bool, Parameter(help="run cells again that failed or were refused", negative=())
    ] = False,
    dry_run: Annotated[bool, Parameter(help="only say what would be done", negative=())] = False,
) -> None:
    """Run a plan: data × models × requests × methods × seeds. What is finished is never run again;
    stop and go on at any time.

    Exit code 1 where a cell failed or was refused.
    """
    from eigenforget.cli import benching_ as benching

    status = benching.bench(
        plan,
        store=store,
        out=out or Path("results") / plan.stem,
        backend=backend,
        workers=workers,
        threads=threads,
        device=device,
        retry=retry,
        dry_run=dry_run,
    )
    raise SystemExit(status)


@app.command
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
    from eigenforget.cli import benching_ as benching
    from eigenforget.core.errors import EigenforgetError

    if not folders:
        raise EigenforgetError("leaderboard needs a folder with results of a plan")
    benching.write_leaderboard(folders, into)


@cache.command(name="list")
def list_models(folder: StoreFolder, /) -> None:
    """The models that are kept, the longest unused first."""
    from eigenforget.cli import benching_ as benching

    benching.list_cache(folder)


@cache.command
def prune(
    folder: StoreFolder,
    /,
    *,
    max_size: Annotated[str, Parameter(help="what may stay, such as 20G, 500M or 0")],
) -> None:
    """Remove the models that were longest unused, until the rest fits."""
    from eigenforget.cli import benching_ as benching

    benching.prune_cache(folder, max_size)


@cache.command
def check(folder: StoreFolder, /) -> None:
    """Read every model and compare it with its digest. Exit code 1 where one is damaged."""
    from eigenforget.cli import benching_ as benching

    raise SystemExit(benching.check_cache(folder))
