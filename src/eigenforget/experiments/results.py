"""Records and results on disk: sealed as one chain, written as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eigenforget import record
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.experiments.experiment import Experiment
from eigenforget.record import Manifest, RunRecord, ledger
from eigenforget.record.signing import signature_path
from eigenforget.report import write_csv, write_page
from eigenforget.requests import personal_fields

SPLIT = "split.json"
"""Name of the file with the ids of the split, in a folder of records."""


class Recording(NamedTuple):
    """How records are kept. salt: file with the salt that hides ids in them. ledger: folder to
    whose chain each is appended as well.
    """

    salt: Path | None = None
    ledger: Path | None = None

    def check(self) -> None:
        """Errors, before any work: the salt cannot be read, or nothing could be appended to the
        ledger.
        """
        if self.salt is not None:
            record.read_salt(self.salt)
        if self.ledger is not None:
            ledger.check_ledger(self.ledger)

    def shown(self, experiment: Experiment, text: str) -> str:
        """The request as it may stand in a title or a checkpoint: the given text, or its spec with
        the values hidden.
        """
        if self.salt is None or experiment.request is None:
            return text
        return record.pseudonymised_text(
            spell(experiment.request),
            record.read_salt(self.salt),
            personal=personal_fields(experiment.request),
        )


class Kept(NamedTuple):
    """Records sealed as one chain, and the text of the file with the ids of their split; "" where
    nothing is forgotten.
    """

    records: list[RunRecord]
    split: str


def manifest(experiment: Experiment) -> Manifest:
    """The ids on both sides of the experiment's split."""
    ids, split = experiment.data.train_index.ids, experiment.split
    return record.manifest_of(map(str, ids[split.forget]), map(str, ids[split.retain]))


def keep(
    records: Iterable[RunRecord],
    experiment: Experiment,
    split_name: str,
    recording: Recording | None = None,
) -> Kept:
    """The records as they are written: sealed, with the file of the split among their inputs, and
    with ids hidden where a salt is given.
    """
    salt = None if recording is None or recording.salt is None else record.read_salt(recording.salt)
    split = None if experiment.request is None else manifest(experiment)
    found = list(records)
    if salt is not None:
        found = [
            record.pseudonymised(
                item,
                salt,
                split,
                personal=personal_fields(experiment.request),
                known=_names(experiment),
            )
            for item in found
        ]
        split = split and record.pseudonymised_split(split, salt)
    text = record.manifest_text(split) if split else ""
    named = {f"file:{split_name}": record.text_digest(text)} if split else {}
    return Kept(
        list(record.chained(replace(item, inputs={**item.inputs, **named}) for item in found)), text
    )


def _names(experiment: Experiment) -> dict[str, list[str]]:
    """Ids and groups of all samples, which a text of a record may quote."""
    both = experiment.data.train_index, experiment.data.test_index
    groups = {str(name) for index in both if index.groups is not None for name in index.groups}
    return {"id": [str(name) for index in both for name in index.ids], "group": sorted(groups)}


def file_of(path: Path) -> dict[str, str]:
    """The file's name and digest as they stand among the inputs or outputs of a record."""
    return {f"file:{path.name}": record.file_digest(path)}


def write_results(
    records: Sequence[RunRecord],
    out: Path,
    *,
    title: str,
    overwrite: bool,
    split: str = "",
) -> None:
    """records/*.json, table.csv and report.html; made in a draft folder first, so a failure leaves
    the old ones whole.

    split: text of records/split.json, see `keep`.
    """
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "records").mkdir(parents=True)
    for number, item in enumerate(records):
        record.write(
            item,
            draft
            / "records"
            / f"{number:02d}-{item.name.replace(' ', '-').replace('/', '-')}.json",
        )
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


def write_record(
    unsealed: RunRecord, experiment: Experiment, out: Path, *, recording: Recording, overwrite: bool
) -> None:
    """OUT.json and, where samples are forgotten, OUT.split.json; with a ledger the record goes into
    it as well.
    """
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
        raise EigenforgetError(
            f"{out} holds {', '.join(taken)} already; say --overwrite to replace them"
        )
