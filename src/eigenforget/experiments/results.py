"""Results on disk: records sealed as one chain, and files that appear together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from eigenforget import record
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.evaluation.records import SPLIT, append_to_ledger, with_verdicts
from eigenforget.experiments.data_facts import ROWS
from eigenforget.models import checkpoint
from eigenforget.record import Manifest, RunRecord, ledger
from eigenforget.record.fields import check_names
from eigenforget.record.signing import signature_path
from eigenforget.record.transactions import Transaction
from eigenforget.requests import ForgetRequest, personal_fields

_RESULTS = ("records", "table.csv", "report.html")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How records are kept.

    Attributes:
        hash_ids: file with a salt (see keygen); records then hold salted hashes instead of ids,
            groups and values
        ledger: folder with one chain of records, to which every record is appended as well
    """

    hash_ids: Path | None = None
    ledger: Path | None = None

    def check(self) -> None:
        """Checks, before any work, that the salt can be read and the ledger appended to."""
        if self.hash_ids is not None:
            record.read_salt(self.hash_ids)
        if self.ledger is not None:
            ledger.check_ledger(self.ledger)

    def shown(self, text: str, request: ForgetRequest | None) -> str:
        """The request as it may stand in a title or a checkpoint: hidden where ids are hidden."""
        if self.hash_ids is None or request is None:
            return text
        salt, personal = record.read_salt(self.hash_ids), personal_fields(request)
        return record.pseudonymised_text(spell(request), salt, personal=personal)


PLAIN = Recording()
"""Ids as they are, and no ledger."""


@dataclass(frozen=True)
class Output:
    """Where results go.

    Attributes:
        path: A checkpoint or a folder.
        recording: How records are kept.
        overwrite: Whether existing results are replaced.
        like: A file in whose form a checkpoint is saved; None saves safetensors.
        weights: The key of the weights in that file, where there are several.
    """

    path: Path
    recording: Recording = PLAIN
    overwrite: bool = False
    like: Path | None = None
    weights: str = ""

    def check_checkpoint(self) -> None:
        """Checks, before any work, that the checkpoint and the files beside it can be written."""
        checkpoint.check_target(self.path, self.like)
        check_names([self.path.name], "the name of --out")
        status = "" if self.overwrite or self.path.exists() else _left_by(self.path)
        if status:
            raise EigenforgetError(
                f"{self.path.with_suffix('.json')}: exists already, as the record of a run that was"
                f" {status} and made no model; use --overwrite to replace it"
            )
        for path in _files_of(self.path):
            record.check_place(path, overwrite=self.overwrite)
        self.recording.check()

    def check_folder(self) -> None:
        """Checks, before any work, that results can be written into the folder."""
        record.check_place(self.path, overwrite=self.overwrite, folder=True)
        taken = [name for name in _RESULTS if (self.path / name).exists()]
        if taken and not self.overwrite:
            raise EigenforgetError(
                f"{self.path} holds {', '.join(taken)} already; use --overwrite to replace them"
            )
        check_records(self.path / "records", overwrite=True)
        self.recording.check()


def _left_by(checkpoint: Path) -> str:
    """The status of a run that left its record, and no checkpoint, under this name; "" for none."""
    try:
        status = record.read(checkpoint.with_suffix(".json")).outcome.status
    except record.RecordError:
        return ""
    return "" if status == "ok" else status


class SealedRecords(NamedTuple):
    """Records sealed as one chain.

    Attributes:
        records: The records, in order.
        split: Text of the file with the ids of their split; "" where nothing is forgotten.
    """

    records: list[RunRecord]
    split: str


def sealed(
    records: Iterable[RunRecord],
    manifest: Manifest | None,
    *,
    request: ForgetRequest | None,
    names: Mapping[str, Sequence[str]],
    recording: Recording = PLAIN,
    split_name: str = SPLIT,
) -> SealedRecords:
    """The records as they are written: sealed as one chain, with ids hidden where a salt is given.

    Args:
        records: Unsealed records.
        manifest: The ids of the split, whose file goes among the inputs of each record.
        request: What is forgotten; it says which of its fields are personal.
        names: Ids and groups of all samples, which a text of a record may quote.
        recording: How they are kept.
        split_name: Name of the file of the split.
    """
    found, split = with_verdicts(list(records)), manifest
    if recording.hash_ids is not None:
        salt = record.read_salt(recording.hash_ids)
        personal = personal_fields(request)
        found = [
            record.pseudonymised(item, salt, manifest, personal=personal, known=names)
            for item in found
        ]
        split = manifest and record.pseudonymised_split(manifest, salt)
    text = record.manifest_text(split) if split else ""
    named = {f"file:{split_name}": record.text_digest(text)} if split else {}
    chain = record.chained(replace(item, inputs={**item.inputs, **named}) for item in found)
    return SealedRecords(list(chain), text)


def file_of(path: Path) -> dict[str, str]:
    """The file's name and digest as they stand among the inputs or outputs of a record."""
    check_names([path.name], "the name of a file")
    return {f"file:{path.name}": record.file_digest(path)}


class CheckpointFiles(NamedTuple):
    """Drafts of a checkpoint, its record, the ids of its split and the hashes of its data.

    Attributes:
        model: The checkpoint.
        record: Its record.
        split: The ids of its split.
        rows: The hashes of its data.
        step: What they are part of.
        ledger: To which the record is appended in the same step, where one is kept.
    """

    model: Path
    record: Path
    split: Path
    rows: Path
    step: Transaction
    ledger: Path | None

    def write(self, chain: SealedRecords) -> None:
        """Writes the record and the split, and appends the record to the ledger."""
        record.write(chain.records[0], self.record)
        if chain.split:
            record.write_text(self.split, chain.split)
        append_to_ledger(chain.records, self.ledger, self.step)


@contextmanager
def checkpoint_files(output: Output) -> Iterator[CheckpointFiles]:
    """Yields drafts that replace the checkpoint and the files beside it, all of them or none.

    A signature, a split and hashes that belong to the record before are removed.
    """
    model, beside, split, rows = _files_of(output.path)
    with record.transaction(overwrite=output.overwrite) as step:
        for path in (split, rows, signature_path(beside)):
            step.remove(path)
        drafts = step.draft(model), step.draft(beside), step.draft(split), step.draft(rows)
        yield CheckpointFiles(*drafts, step, output.recording.ledger)


def check_records(folder: Path, *, overwrite: bool) -> None:
    """Checks that a folder of records can be written as a whole.

    Raises:
        RecordError: It cannot, or it is there and `overwrite` is false.
        EigenforgetError: It holds other files than records, which would be lost.
    """
    record.check_place(folder, overwrite=overwrite, folder=True)
    if not folder.is_dir():
        return
    record.check_replaceable(folder, overwrite=overwrite)
    others = sorted(p.name for p in folder.iterdir() if p.suffix not in (".json", ".sig"))
    if others:
        raise EigenforgetError(
            f"{folder} contains files that are not records, such as {others[0]}, so it is not "
            "replaced; move them or name another place"
        )


def _files_of(out: Path) -> tuple[Path, Path, Path, Path]:
    """A checkpoint, its record, the ids of its split and the hashes of its data."""
    return out, out.with_suffix(".json"), out.with_suffix(f".{SPLIT}"), out.with_suffix(ROWS)
