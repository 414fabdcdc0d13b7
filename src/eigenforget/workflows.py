"""What each command does: parse every spec first, check outputs before work begins, then run and write files atomically."""

from __future__ import annotations

import inspect
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table
from rich.text import Text

from eigenforget import record
from eigenforget.data import DATASETS
from eigenforget.engine import Engine
from eigenforget.evaluation import Board, Role
from eigenforget.jobs import Experiment, Made, described, problem
from eigenforget.methods import known_methods
from eigenforget.models import MODELS, checkpoint
from eigenforget.record import Outcome, RunRecord
from eigenforget.report import write_csv, write_page
from eigenforget.report.console import rich_table
from eigenforget.requests import REQUESTS
from eigenforget.spec import describe, parse, spell
from eigenforget.study import Study, rows_of
from eigenforget.terminal import console, one_thread, progress
from eigenforget.training import RECIPES, Recipe
from eigenforget.twins import few_enough, twins
from eigenforget.types import Diverged, EigenforgetError, Refused, listed


class Specs(NamedTuple):
    """Spec strings of a job; "" takes what the checkpoint says."""

    data: str
    model: str
    recipe: str
    request: str


class Checkpoints(NamedTuple):
    """Checkpoints to compare. peers: made in the same way as the one model, from other training seeds."""

    original: Path
    oracles: tuple[Path, ...]
    models: tuple[Path, ...]
    peers: tuple[Path, ...] = ()


class Scope(NamedTuple):
    """What is measured: the headline layer ("": the input of the classifier head), further layers, and what is left out."""

    layer: str = ""
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


def engine(*, device: str, precision: str = "32-true", channels_last: bool = False) -> Engine:
    """The engine of a command; Fabric's own notices are silenced, the table is what the user reads."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Engine(device=device, precision=precision, channels_last=channels_last)


def demo(*, out: Path, label: int, seed: int, overwrite: bool) -> None:
    """`eigenforget demo`: see the command's help."""
    specs = Specs("digits()", "small_resnet(width=16)", "recipe(epochs=20, batch_size=64)", f"by_class(label={label})")
    chosen = ("muda(alternations=15, batch_size=32)", "finetune()", "random_label(epochs=3, lr=0.1)", "head_mask()")
    study = Study(experiment_of(specs, engine(device="cpu")), [parse(m, known_methods(), "method") for m in chosen], seed=seed)
    study.experiment.split  # noqa: B018  (an unknown class must fail before any output is made)
    _check_folder(out, overwrite)
    with progress() as watch, one_thread():
        records = list(study.records(watch))
    write_results(records, out, title=f"eigenforget demo: forget digit {label}", overwrite=overwrite)
    console.print(f"Open {out}/report.html in a browser. Next, a job of your own, from the same data:")
    console.print(
        "  eigenforget train --data 'digits()' --model 'small_resnet(width=16)' --out original.safetensors",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def train(specs: Specs, *, out: Path, seed: int, engine: Engine, overwrite: bool) -> None:
    """`eigenforget train`: a checkpoint and a record beside it."""
    experiment = experiment_of(specs, engine)
    _check_file(out, overwrite)
    if specs.request:
        experiment.split  # noqa: B018  (fail before training)
    with progress() as watch:
        log = watch("train", experiment.recipe.epochs)
        made = experiment.train(seed=seed, without_forget=bool(specs.request), log=log)
    _save(experiment, made, out, kind="train", job={"seed": seed}, overwrite=overwrite)


def unlearn(
    source: Path, specs: Specs, *, method: str, out: Path, seed: int, retain_fraction: float, engine: Engine, overwrite: bool
) -> None:
    """`eigenforget unlearn`: a new checkpoint and a record beside it; a refused or failed run leaves the record only."""
    chosen = parse(method, known_methods(), "method")
    loaded = checkpoint.load_state(source)
    experiment = replace(experiment_of(_completed(specs, loaded.metadata), engine), retain_fraction=retain_fraction)
    _check_file(out, overwrite)
    if out.resolve() == source.resolve():
        raise EigenforgetError(f"--out {out} is the input checkpoint, which is never overwritten")
    model = experiment.stored_model(loaded)
    job = {"seed": seed, "method": described(chosen), "role": chosen.role, "retain_fraction": retain_fraction}
    job |= _near_duplicates(experiment)
    inputs = {"input_model": checkpoint.digest(model)}
    try:
        with progress() as watch:
            made = experiment.unlearn(model, chosen, seed=seed, log=watch(f"unlearn: {chosen.name}", rows_of(chosen)))
    except (Refused, Diverged) as error:
        _write_record(experiment.record("unlearn", out.stem, problem(error), job=job, inputs=inputs), out, overwrite)
        raise
    _save(experiment, made, out, kind="unlearn", job=job, inputs=inputs, overwrite=overwrite)
    given = "".join(f" --{name} '{spec}'" for name, spec in (("data", specs.data), ("model", specs.model)) if spec)
    console.print(f"Next: eigenforget evaluate {out} --original {source}{given} --forget '{specs.request}' --out results", highlight=False)


def duplicates(data: str, request: str, *, threshold: float) -> int:
    """`eigenforget duplicates`: near duplicates of forgotten samples among the retained ones; 1 where there are any."""
    specs = parse(data, DATASETS, "data set"), None, Recipe(), parse(request, REQUESTS, "request")
    experiment = Experiment(*specs, engine(device="cpu"))
    found = twins(experiment, threshold)
    console.print(found.warning() or f"no retained sample is within cosine {threshold} of a forgotten one", highlight=False)
    return 1 if found.pairs else 0


def evaluate(paths: Checkpoints, specs: Specs, *, out: Path, scope: Scope, seed: int, engine: Engine, overwrite: bool) -> None:
    """`eigenforget evaluate`: records, table.csv and report.html in a folder."""
    _check_folder(out, overwrite)
    records = _measured(paths, specs, scope=scope, seed=seed, engine=engine)
    write_results(records, out, title=f"eigenforget: {specs.request}", overwrite=overwrite)


def analyze(paths: Checkpoints, specs: Specs, *, out: Path, scope: Scope, seed: int, engine: Engine, overwrite: bool) -> None:
    """`eigenforget analyze`: the paper's first observation on the user's own models, as one page."""
    _check_file(out, overwrite)
    if not paths.oracles:
        raise EigenforgetError("analyze compares the original with at least one --oracle")
    records = _measured(paths, specs, scope=scope, seed=seed, engine=engine)
    console.print(rich_table(records, console.width))
    write_page(records, out, title=f"Features of seen and unseen data: {specs.request}")
    console.print(f"wrote {out}", highlight=False)


def list_methods(name: str) -> None:
    """`eigenforget methods`: a table of all, or the fields of one."""
    if name:
        kind = type(parse(name.split("(")[0], known_methods(), "method"))
        paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
        text = "\n\n".join(" ".join(p.split()) for p in paragraphs)
        about = f"Needs: {', '.join(kind.needs)}. Guarantee: {kind.guarantee}.\nCost: {kind.passes}.\nSource: {kind.source}"
        console.print(f"{kind.name}: {text}\n\n{about}\n", highlight=False, markup=False)
        table = Table("field", "type", "default", "what it is", title=None)
        for row in describe(kind):
            table.add_row(*map(Text, row))
        console.print(table)
        for recipe, fields in getattr(kind, "recipes", {}).items():
            console.print(f"{kind.name}(recipe={recipe!r}) is {spell(kind(**fields))}", highlight=False, markup=False)
        return
    table = Table(show_lines=True)
    for column in ("method", "needs", "guarantee", "cost in samples", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "method")
    for kind in known_methods():
        title = kind.name if kind.role == "unlearned" else f"{kind.name}\n({kind.role})"
        where = re.search(r"arXiv \d{4}\.\d{4,5}|CVPR \d{4}", kind.source)
        source = where[0] if where else kind.source.split(";")[0]
        table.add_row(*map(Text, (title, ", ".join(kind.needs), kind.guarantee, kind.passes, source)))
    console.print(table)
    console.print("`eigenforget methods NAME` explains a method: its formula, fields, source and our deviations from it.", highlight=False)


def experiment_of(specs: Specs, engine: Engine) -> Experiment:
    """The experiment that the specs spell. Errors: one of them is wrong."""
    return Experiment(
        data_spec=parse(specs.data, DATASETS, "data set"),
        model_spec=parse(specs.model, MODELS, "model"),
        recipe=parse(specs.recipe, RECIPES, "recipe") if specs.recipe else Recipe(),
        request=parse(specs.request, REQUESTS, "request") if specs.request else None,
        engine=engine,
    )


def _near_duplicates(experiment: Experiment) -> dict[str, Any]:
    """A warning and an entry for the record where retained samples are almost forgotten ones; {} where it was not looked for."""
    first = next(experiment.forget.batches(1)).inputs
    if not (few_enough(experiment) and isinstance(first, torch.Tensor) and first.is_floating_point()):
        return {}
    found = twins(experiment)
    if found.pairs:
        console.print(f"warning: {found.warning()}", highlight=False, markup=False)
    return {"near_duplicates": {"total": found.total, "pairs": [list(pair) for pair in found.pairs[:10]]}}


def _completed(specs: Specs, metadata: Mapping[str, str]) -> Specs:
    """Missing specs from the checkpoint's metadata. Errors: neither says it."""
    filled = {}
    for name in ("data", "model", "recipe"):
        filled[name] = getattr(specs, name) or metadata.get(name, "")
        if not filled[name] and name != "recipe":
            raise EigenforgetError(f"the checkpoint does not say its {name}; give --{name}")
    return specs._replace(**filled)


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
    experiment = experiment_of(_completed(specs, loaded[0].metadata), engine)
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
            spent = origin.outcome if origin else Outcome("ok", 0.0)
            records.append(experiment.evaluation_record(name, Made(model, spent.seconds, spent.cost), measured, job=job))
            done({})
    return list(record.chained(records))


def _origin(path: Path) -> RunRecord | None:
    """The record beside a checkpoint, which knows the method and the seconds it took; None where there is none."""
    beside = path.with_suffix(".json")
    return record.read(beside) if beside.exists() else None


def _save(
    experiment: Experiment, made: Made, out: Path, *, kind: str, job: Mapping[str, Any], inputs: Any = None, overwrite: bool
) -> None:
    spelled = {key: value["spec"] for key, value in experiment.job().items()}
    if "method" in job:
        spelled["method"] = job["method"]["spec"]
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(made.model, out, {"eigenforget": kind, **spelled}, overwrite=overwrite)
    outcome = Outcome("ok", made.seconds, cost=made.cost, outputs={"model": checkpoint.digest(made.model)})
    _write_record(experiment.record(kind, out.stem, outcome, job=dict(job), inputs=inputs or {}), out, overwrite)
    console.print(f"wrote {out} and {out.with_suffix('.json')} ({made.seconds:.1f} s)", highlight=False)


def _write_record(unsealed: RunRecord, out: Path, overwrite: bool) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    record.write(record.seal(unsealed, None), out.with_suffix(".json"), overwrite=overwrite)


def write_results(records: Sequence[RunRecord], out: Path, *, title: str, overwrite: bool, shown: bool = True) -> None:
    """records/*.json, table.csv and report.html; made in a draft folder first, so a failure leaves the old ones whole."""
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "records").mkdir(parents=True)
    for number, item in enumerate(records):
        record.write(item, draft / "records" / f"{number:02d}-{item.name.replace(' ', '-').replace('/', '-')}.json")
    write_csv(records, draft / "table.csv")
    write_page(records, draft / "report.html", title=title)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("records", "table.csv", "report.html"):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        (draft / name).replace(out / name)
    draft.rmdir()
    if not shown:
        return
    console.print(rich_table(records, console.width))
    console.print(f"wrote {out}/report.html, {out}/table.csv and {len(records)} records in {out}/records", highlight=False)


def _check_file(out: Path, overwrite: bool) -> None:
    for path in (out, out.with_suffix(".json")) if out.suffix == ".safetensors" else (out,):
        if path.exists() and not overwrite:
            raise EigenforgetError(f"{path} exists; say --overwrite to replace it")


def _check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise EigenforgetError(f"--out {out} is a file; results go into a folder")
    taken = [name for name in ("records", "table.csv", "report.html") if (out / name).exists()]
    if taken and not overwrite:
        raise EigenforgetError(f"{out} holds {', '.join(taken)} already; say --overwrite to replace them")
