"""Commands that measure models: parse every spec first, check outputs before work begins, then
measure and write.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from eigenforget import record
from eigenforget.cli.terminal import console, engine, progress, show_results
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.core.text import listed
from eigenforget.data import DATASETS
from eigenforget.evaluation.analysis import analyse, earlier_layers
from eigenforget.evaluation.board import Board
from eigenforget.evaluation.scoring import check_skip
from eigenforget.experiments.checkpoints import Checkpoints, Scope
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.near_duplicates import twins
from eigenforget.experiments.provenance import Given, check_references, doubts
from eigenforget.experiments.results import (
    SPLIT,
    Kept,
    Recording,
    append,
    check_file,
    check_folder,
    file_of,
    keep,
    write_results,
)
from eigenforget.experiments.specs import Specs, completed, experiment_of
from eigenforget.models import checkpoint
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import Outcome, RunRecord
from eigenforget.record.schema import Role
from eigenforget.report.pages.analysis import headlines, render_analysis
from eigenforget.report.requirements import Requirement, judge_records, parse_requirement
from eigenforget.requests import REQUESTS
from eigenforget.training import trackers
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe


class _Found(NamedTuple):
    """Records of measured models, not sealed yet, and the experiment that they belong to."""

    experiment: Experiment
    records: list[RunRecord]


def evaluate(
    paths: Checkpoints,
    specs: Specs,
    *,
    out: Path,
    scope: Scope,
    seed: int,
    engine: Engine,
    recording: Recording,
    require: Sequence[str],
    track: Sequence[str],
    overwrite: bool,
) -> int:
    """`eigenforget evaluate`: records, table.csv and report.html in a folder; 1 where a requirement
    does not hold, otherwise 0.

    track: trackers that also get the scores.
    """
    wanted = [parse_requirement(text) for text in require]
    if wanted and not paths.models:
        raise EigenforgetError(
            "--require judges unlearned models, and no model was given to evaluate"
        )
    trackers.check_trackers(track)
    check_folder(out, overwrite)
    recording.check()
    with trackers.tracking(track, name=out.name, leads=engine.leads) as tracked:
        found = _measured(paths, specs, scope=scope, seed=seed, engine=engine)
        kept = keep(found.records, found.experiment, SPLIT, recording)
        title = f"eigenforget: {recording.shown(found.experiment, specs.request)}"
        with engine.led() as leads:
            if leads:
                write_results(kept.records, out, title=title, overwrite=overwrite, split=kept.split)
                show_results(kept.records, out)
                append(kept.records, recording)
        for item in kept.records:
            tracked.scores(item.name, {score.name: score.value for score in item.scores})
    return _judged(wanted, kept.records) if leads and wanted else 0


def _judged(wanted: Sequence[Requirement], records: Sequence[RunRecord]) -> int:
    """A line for each requirement and model; 1 where one does not hold."""
    judged = judge_records(wanted, records)
    for item in judged:
        console.print(item.line, highlight=False, markup=False, soft_wrap=True)
    return 0 if all(item.holds for item in judged) else 1


def analyze(
    paths: Checkpoints,
    specs: Specs,
    *,
    out: Path,
    records: Path | None,
    scope: Scope,
    seed: int,
    engine: Engine,
    recording: Recording,
    overwrite: bool,
) -> None:
    """`eigenforget analyze`: the paper's first observation on the user's own models, as one page
    made from records beside it.
    """
    beside = records or out.with_name(f"{out.stem}-records")
    check_file(out, overwrite)
    _check_records(beside, overwrite)
    recording.check()
    if not paths.oracles:
        raise EigenforgetError("analyze compares the original with at least one --oracle")
    found = _analysed(paths, specs, scope=scope, seed=seed, engine=engine)
    kept = keep(found.records, found.experiment, SPLIT, recording)
    title = f"Features of seen and unseen data: {recording.shown(found.experiment, specs.request)}"
    text = render_analysis(kept.records, title)
    with engine.led() as leads:
        if leads:
            _write_chain(kept, beside)
            record.write_text(out, text)
    for line in headlines(kept.records):
        console.print(line, highlight=False)
    console.print(f"wrote {out} and {len(kept.records)} records in {beside}", highlight=False)


def _analysed(
    paths: Checkpoints, specs: Specs, *, scope: Scope, seed: int, engine: Engine
) -> _Found:
    files = (paths.original, *paths.oracles)
    loaded, digests = (
        [checkpoint.load_checkpoint(path) for path in files],
        [file_of(path) for path in files],
    )
    experiment = experiment_of(completed(specs, loaded[0].metadata), engine)
    given = [Given(path, item) for path, item in zip(files, loaded, strict=True)]
    check_references(given[0], given[1:], experiment)
    models = [experiment.stored_model(item) for item in loaded]
    layers = scope.layers or earlier_layers(
        models[0], experiment.retain, engine=engine, layer=scope.layer or None
    )
    panel = experiment.panel(seed=seed, layer=scope.layer or None, layers=layers)
    roles: list[Role] = ["original"]
    roles += ["oracle"] * len(paths.oracles)
    names = ["original", *(f"oracle {i}" for i in range(1, len(files)))]
    chosen = {
        "layers": list(layers),
        "layers_chosen": "by the user" if scope.layers else "automatically",
    }
    with progress() as watch:
        done = watch(f"features at {len(layers) + 1} layers", len(models))
        measured = analyse(panel, models, roles, log=done)
    unsealed = []
    for name, path, model, found, inputs in zip(
        names, files, models, measured, digests, strict=True
    ):
        origin = _origin(path)
        job = {"seed": seed, "checkpoint": path.name, **chosen} | (
            {"layer": scope.layer} if scope.layer else {}
        )
        spent = origin.outcome if origin else Outcome("ok", 0.0)
        unsealed.append(
            experiment.evaluation_record(
                name, ModelAndCost(model, spent.seconds, spent.cost), found, job=job, inputs=inputs
            )
        )
    return _Found(experiment, unsealed)


def _check_records(folder: Path, overwrite: bool) -> None:
    """Errors: something is there already; with --overwrite only what is no folder of records."""
    if folder.exists() and not overwrite:
        raise EigenforgetError(f"{folder} exists; say --overwrite to replace it")
    if folder.exists() and (
        not folder.is_dir() or any(p.suffix not in (".json", ".sig") for p in folder.iterdir())
    ):
        raise EigenforgetError(
            f"--records {folder} holds other things than records and is not replaced"
        )


def _write_chain(kept: Kept, folder: Path) -> None:
    """A folder of records; made as a draft beside it first, so that a failure leaves the old one
    whole.
    """
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for number, item in enumerate(kept.records):
        record.write(item, draft / f"{number:02d}-{item.name.replace(' ', '-')}.json")
    record.write_text(draft / SPLIT, kept.split)
    if folder.exists():
        shutil.rmtree(folder)
    draft.replace(folder)


def duplicates(data: str, request: str, *, threshold: float) -> int:
    """`eigenforget duplicates`: near duplicates of forgotten samples among the retained ones; 1
    where there are any.
    """
    specs = parse(data, DATASETS, "data set"), None, Recipe(), parse(request, REQUESTS, "request")
    experiment = Experiment(*specs, engine(device="cpu"))
    found = twins(experiment, threshold)
    console.print(
        found.warning() or f"no retained sample is within cosine {threshold} of a forgotten one",
        highlight=False,
    )
    return 1 if found.pairs else 0


def _measured(
    paths: Checkpoints, specs: Specs, *, scope: Scope, seed: int, engine: Engine
) -> _Found:
    check_skip(scope.skip)
    if paths.peers and len(paths.models) != 1:
        raise EigenforgetError(
            f"--peer names models made like the one that is evaluated; {len(paths.models)} models were given"
        )
    named: list[tuple[str, Role | None, Path]] = [("original", "original", paths.original)]
    named += [(f"oracle {i}", "oracle", path) for i, path in enumerate(paths.oracles, start=1)]
    named += [(path.stem, None, path) for path in paths.models]
    names = [name for name, _, _ in named]
    if len(set(names)) < len(names):
        raise EigenforgetError(f"models take their file names, which must differ: {listed(names)}")
    experiment, models = _opened([path for _, _, path in named], paths, specs, engine)
    files = [file_of(path) for _, _, path in named]
    panel = experiment.panel(
        seed=seed, layer=scope.layer or None, layers=scope.layers, skip=scope.skip, maps=scope.maps
    )
    with progress() as watch:
        done = watch("observe: original and retrained models", 1)
        board = Board(
            panel, models[:1], models[1 : 1 + len(paths.oracles)], peers=len(paths.peers) or None
        )
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
                measured = board.measure(
                    model,
                    origin.job.get("role", "unlearned") if origin else "unlearned",
                    peers=peers,
                )
            job = (
                {"seed": seed, "checkpoint": path.name}
                | _kept(origin)
                | ({"layer": scope.layer} if scope.layer else {})
            )
            if role is None:
                job |= unchanged_weights(models[0], model)
            trace = origin.series.get("trace") if origin else None
            spent = origin.outcome if origin else Outcome("ok", 0.0)
            made = ModelAndCost(model, spent.seconds, spent.cost)
            records.append(
                experiment.evaluation_record(
                    name, made, measured, job=job, trace=trace, inputs=files[number]
                )
            )
            done({})
    return _Found(experiment, records)


def _opened(
    files: Sequence[Path], paths: Checkpoints, specs: Specs, engine: Engine
) -> tuple[Experiment, list[nn.Module]]:
    """The experiment, and the models of these files and of the peers. Errors: they cannot be
    compared; warnings: they may not be meant.
    """
    loaded = [checkpoint.load_checkpoint(path) for path in (*files, *paths.peers)]
    experiment = experiment_of(completed(specs, loaded[0].metadata), engine)
    given, last = (
        [Given(path, item) for path, item in zip(files, loaded, strict=False)],
        1 + len(paths.oracles),
    )
    check_references(given[0], given[1:last], experiment)
    for line in doubts(given[last:], experiment):
        console.print(f"warning: {line}", highlight=False, markup=False, soft_wrap=True)
    return experiment, [experiment.stored_model(item) for item in loaded]


def _kept(origin: RunRecord | None) -> dict[str, Any]:
    """What the evaluate record says again of how the model was made."""
    return {
        key: origin.job[key]
        for key in ("method", "near_duplicates")
        if origin and key in origin.job
    }


def _origin(path: Path) -> RunRecord | None:
    """The record beside a checkpoint, which knows the method and the seconds it took; None where
    there is none.
    """
    beside = path.with_suffix(".json")
    return record.read(beside) if beside.exists() else None
