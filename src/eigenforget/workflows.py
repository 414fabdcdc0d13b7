"""What commands share: specs, the engine, checks of outputs before work begins, and results that are written as a whole."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget import record
from eigenforget.data import DATASETS
from eigenforget.engine import Engine
from eigenforget.jobs import Experiment
from eigenforget.models import MODELS
from eigenforget.record import RunRecord
from eigenforget.report import write_csv, write_page
from eigenforget.report.console import rich_table
from eigenforget.requests import REQUESTS
from eigenforget.spec import parse
from eigenforget.terminal import console
from eigenforget.training import RECIPES, Recipe
from eigenforget.types import EigenforgetError


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
    """What is measured: the headline layer ("": the input of the classifier head), further layers, what is left out, and further maps."""

    layer: str = ""
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()


def engine(*, device: str, precision: str = "32-true", channels_last: bool = False) -> Engine:
    """The engine of a command; Fabric's own notices are silenced, the table is what the user reads."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Engine(device=device, precision=precision, channels_last=channels_last)


def experiment_of(specs: Specs, engine: Engine) -> Experiment:
    """The experiment that the specs spell. Errors: one of them is wrong."""
    return Experiment(
        data_spec=parse(specs.data, DATASETS, "data set"),
        model_spec=parse(specs.model, MODELS, "model"),
        recipe=parse(specs.recipe, RECIPES, "recipe") if specs.recipe else Recipe(),
        request=parse(specs.request, REQUESTS, "request") if specs.request else None,
        engine=engine,
    )


def completed(specs: Specs, metadata: Mapping[str, str]) -> Specs:
    """Missing specs from the checkpoint's metadata. Errors: neither says it."""
    filled = {}
    for name in ("data", "model", "recipe"):
        filled[name] = getattr(specs, name) or metadata.get(name, "")
        if not filled[name] and name != "recipe":
            raise EigenforgetError(f"the checkpoint does not say its {name}; give --{name}")
    return specs._replace(**filled)


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


def write_record(unsealed: RunRecord, out: Path, overwrite: bool) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    record.write(record.seal(unsealed, None), out.with_suffix(".json"), overwrite=overwrite)


def check_file(out: Path, overwrite: bool) -> None:
    for path in (out, out.with_suffix(".json")) if out.suffix == ".safetensors" else (out,):
        if path.exists() and not overwrite:
            raise EigenforgetError(f"{path} exists; say --overwrite to replace it")


def check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise EigenforgetError(f"--out {out} is a file; results go into a folder")
    taken = [name for name in ("records", "table.csv", "report.html") if (out / name).exists()]
    if taken and not overwrite:
        raise EigenforgetError(f"{out} holds {', '.join(taken)} already; say --overwrite to replace them")
