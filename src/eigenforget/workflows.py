"""What commands share: specs, the engine, checks of outputs before work begins, and results that are written as a whole."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eigenforget import record
from eigenforget.data import DATASETS
from eigenforget.engine import Engine
from eigenforget.jobs import Experiment
from eigenforget.models import MODELS
from eigenforget.record import Manifest, RunRecord, ledger
from eigenforget.record.signing import signature_path
from eigenforget.report import write_csv, write_page
from eigenforget.report.console import rich_table
from eigenforget.requests import REQUESTS
from eigenforget.spec import parse, spell
from eigenforget.terminal import console
from eigenforget.training import RECIPES, Recipe
from eigenforget.types import EigenforgetError

SPLIT = "split.json"
"""Name of the file with the ids of the split, in a folder of records."""


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


class Sharing(NamedTuple):
    """Fields of an engine: how many devices share the work and how, batches to a step, and whether training is compiled."""

    devices: int = 1
    strategy: str = "auto"
    accumulate: int = 1
    compile: bool = False


class Scope(NamedTuple):
    """What is measured: the headline layer ("": the input of the classifier head), further layers, what is left out, and further maps."""

    layer: str = ""
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()


class Recording(NamedTuple):
    """How records are kept. salt: file with the salt that hides ids in them. ledger: folder to whose chain each is appended as well."""

    salt: Path | None = None
    ledger: Path | None = None

    def check(self) -> None:
        """Errors, before any work: the salt cannot be read, or nothing could be appended to the ledger."""
        if self.salt is not None:
            record.read_salt(self.salt)
        if self.ledger is not None:
            ledger.check(self.ledger)

    def shown(self, experiment: Experiment, text: str) -> str:
        """The request as it may stand in a title or a checkpoint: the given text, or its spec with the values hidden."""
        if self.salt is None or experiment.request is None:
            return text
        return record.pseudonymised_text(spell(experiment.request), record.read_salt(self.salt))


class Kept(NamedTuple):
    """Records sealed as one chain, and the text of the file with the ids of their split; "" where nothing is forgotten."""

    records: list[RunRecord]
    split: str


def engine(*, device: str, precision: str = "32-true", channels_last: bool = False, sharing: Sharing | None = None) -> Engine:
    """The engine of a command; Fabric's own notices are silenced, the table is what the user reads. Of several processes the first speaks."""
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    found = Engine(device, precision, channels_last, **(sharing or Sharing())._asdict())
    if found.devices > 1:
        found.fabric.launch()
        console.quiet = found.ranks.rank > 0
    return found


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


def manifest(experiment: Experiment) -> Manifest:
    """The ids on both sides of the experiment's split."""
    ids, split = experiment.data.train_index.ids, experiment.split
    return record.manifest_of(map(str, ids[split.forget]), map(str, ids[split.retain]))


def keep(records: Iterable[RunRecord], experiment: Experiment, split_name: str, recording: Recording | None = None) -> Kept:
    """The records as they are written: sealed, with the file of the split among their inputs, and with ids hidden where a salt is given."""
    salt = None if recording is None or recording.salt is None else record.read_salt(recording.salt)
    split = None if experiment.request is None else manifest(experiment)
    found = list(records)
    if salt is not None:
        found = [record.pseudonymised(item, salt, split, known=_names(experiment)) for item in found]
        split = split and record.pseudonymised_split(split, salt)
    text = record.manifest_text(split) if split else ""
    named = {f"file:{split_name}": record.text_digest(text)} if split else {}
    return Kept(list(record.chained(replace(item, inputs={**item.inputs, **named}) for item in found)), text)


def _names(experiment: Experiment) -> dict[str, list[str]]:
    """Ids and groups of all samples, which a text of a record may quote."""
    both = experiment.data.train_index, experiment.data.test_index
    groups = {str(name) for index in both if index.groups is not None for name in index.groups}
    return {"id": [str(name) for index in both for name in index.ids], "group": sorted(groups)}


def file_of(path: Path) -> dict[str, str]:
    """The file's name and digest as they stand among the inputs or outputs of a record."""
    return {f"file:{path.name}": record.file_digest(path)}


def write_results(
    records: Sequence[RunRecord], out: Path, *, title: str, overwrite: bool, shown: bool = True, split: str = ""
) -> None:
    """records/*.json, table.csv and report.html; made in a draft folder first, so a failure leaves the old ones whole.

    split: text of records/split.json, see `keep`.
    """
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "records").mkdir(parents=True)
    for number, item in enumerate(records):
        record.write(item, draft / "records" / f"{number:02d}-{item.name.replace(' ', '-').replace('/', '-')}.json")
    if split:
        record.write_text(draft / "records" / SPLIT, split)
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


def write_record(unsealed: RunRecord, experiment: Experiment, out: Path, *, recording: Recording, overwrite: bool) -> None:
    """OUT.json and, where samples are forgotten, OUT.split.json; with a ledger the record goes into it as well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _, path, split_path = _files_of(out)
    kept = keep([unsealed], experiment, split_path.name, recording)
    if kept.split:
        record.write_text(split_path, kept.split)
    else:
        split_path.unlink(missing_ok=True)
    record.write(kept.records[0], path, overwrite=overwrite)
    signature_path(path).unlink(missing_ok=True)  # of the record that was replaced
    append(kept.records, recording)


def append(records: Sequence[RunRecord], recording: Recording) -> None:
    """The records at the end of the ledger, where one is kept."""
    for item in records if recording.ledger is not None else ():
        record.append(str(recording.ledger), item, f"{item.kind}-{item.name}", again=True)


def _files_of(out: Path) -> tuple[Path, Path, Path]:
    """A checkpoint, its record and the ids of its split."""
    return out, out.with_suffix(".json"), out.with_suffix(f".{SPLIT}")


def check_file(out: Path, overwrite: bool) -> None:
    for path in _files_of(out) if out.suffix == ".safetensors" else (out,):
        if path.exists() and not overwrite:
            raise EigenforgetError(f"{path} exists; say --overwrite to replace it")


def check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise EigenforgetError(f"--out {out} is a file; results go into a folder")
    taken = [name for name in ("records", "table.csv", "report.html") if (out / name).exists()]
    if taken and not overwrite:
        raise EigenforgetError(f"{out} holds {', '.join(taken)} already; say --overwrite to replace them")
