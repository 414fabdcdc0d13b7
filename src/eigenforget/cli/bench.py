"""`eigenforget bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli import benching_ as benching
from eigenforget.cli.options import Device


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
