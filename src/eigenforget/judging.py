"""Commands that measure models: parse every spec first, check outputs before work begins, then measure and write."""

from __future__ import annotations

from pathlib import Path

from eigenforget import record
from eigenforget.data import DATASETS
from eigenforget.engine import Engine
from eigenforget.evaluation import Board, Role
from eigenforget.jobs import Experiment, Made
from eigenforget.models import checkpoint
from eigenforget.record import Outcome, RunRecord
from eigenforget.report import write_page
from eigenforget.report.console import rich_table
from eigenforget.requests import REQUESTS
from eigenforget.spec import parse
from eigenforget.terminal import console, progress
from eigenforget.training import Recipe
from eigenforget.twins import twins
from eigenforget.types import EigenforgetError, listed
from eigenforget.workflows import (
    Checkpoints,
    Scope,
    Specs,
    check_file,
    check_folder,
    completed,
    engine,
    experiment_of,
    write_results,
)


def evaluate(paths: Checkpoints, specs: Specs, *, out: Path, scope: Scope, seed: int, engine: Engine, overwrite: bool) -> None:
    """`eigenforget evaluate`: records, table.csv and report.html in a folder."""
    check_folder(out, overwrite)
    records = _measured(paths, specs, scope=scope, seed=seed, engine=engine)
    write_results(records, out, title=f"eigenforget: {specs.request}", overwrite=overwrite)


def analyze(paths: Checkpoints, specs: Specs, *, out: Path, scope: Scope, seed: int, engine: Engine, overwrite: bool) -> None:
    """`eigenforget analyze`: the paper's first observation on the user's own models, as one page."""
    check_file(out, overwrite)
    if not paths.oracles:
        raise EigenforgetError("analyze compares the original with at least one --oracle")
    records = _measured(paths, specs, scope=scope, seed=seed, engine=engine)
    console.print(rich_table(records, console.width))
    write_page(records, out, title=f"Features of seen and unseen data: {specs.request}")
    console.print(f"wrote {out}", highlight=False)


def duplicates(data: str, request: str, *, threshold: float) -> int:
    """`eigenforget duplicates`: near duplicates of forgotten samples among the retained ones; 1 where there are any."""
    specs = parse(data, DATASETS, "data set"), None, Recipe(), parse(request, REQUESTS, "request")
    experiment = Experiment(*specs, engine(device="cpu"))
    found = twins(experiment, threshold)
    console.print(found.warning() or f"no retained sample is within cosine {threshold} of a forgotten one", highlight=False)
    return 1 if found.pairs else 0


def _measured(paths: Checkpoints, specs: Specs, *, scope: Scope, seed: int, engine: Engine) -> list[RunRecord]:
    if paths.peers and len(paths.models) != 1:
        raise EigenforgetError(f"--peer names models made like the one that is evaluated; {len(paths.models)} models were given")
    named: list[tuple[str, Role | None, Path]] = [("original", "original", paths.original)]
    named += [(f"oracle {i}", "oracle", path) for i, path in enumerate(paths.oracles, start=1)]
    named += [(path.stem, None, path) for path in paths.models]
    names = [name for name, _, _ in named]
    if len(set(names)) < len(names):
        raise EigenforgetError(f"models take their file names, which must differ: {listed(names)}")
    loaded = [checkpoint.load_state(path) for path in (*(path for _, _, path in named), *paths.peers)]
    experiment = experiment_of(completed(specs, loaded[0].metadata), engine)
    models = [experiment.stored_model(item) for item in loaded]
    panel = experiment.panel(seed=seed, layer=scope.layer or None, layers=scope.layers, skip=scope.skip)
    with progress() as watch:
        done = watch("observe: original and retrained models", 1)
        board = Board(panel, models[:1], models[1 : 1 + len(paths.oracles)], peers=len(paths.peers) or None)
        peers = [panel.observe(model) for model in models[len(named) :]]
        done({})
        records: list[RunRecord] = []  # not sealed yet
        for number, ((name, role, path), model) in enumerate(zip(named, models, strict=False)):
            done = watch(f"measure: {name}", 1)
            origin = _origin(path)
            if role == "oracle":
                measured = board.measure_oracle(number - 1)
            elif role == "original":
                measured = board.measure_original()
            else:
                measured = board.measure(model, origin.job.get("role", "unlearned") if origin else "unlearned", peers=peers)
            job = {"seed": seed, "checkpoint": path.name} | ({"method": origin.job["method"]} if origin and "method" in origin.job else {})
            trace = origin.series.get("trace") if origin else None
            spent = origin.outcome if origin else Outcome("ok", 0.0)
            records.append(experiment.evaluation_record(name, Made(model, spent.seconds, spent.cost), measured, job=job, trace=trace))
            done({})
    return list(record.chained(records))


def _origin(path: Path) -> RunRecord | None:
    """The record beside a checkpoint, which knows the method and the seconds it took; None where there is none."""
    beside = path.with_suffix(".json")
    return record.read(beside) if beside.exists() else None
