"""Records on disk: one file each, canonical JSON and a newline, chained within a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .canonical import RecordError, canonical, value_digest
from .fields import appearance
from .files import write_text
from .manifest import MANIFEST, is_manifest
from .reading import check_canonical, read_json
from .schema import RunRecord, outline_from_json, record_from_json, to_json
from .transactions import recover_near


class StoredRecord(NamedTuple):
    """A record and the file that it was read from."""

    record: RunRecord
    path: Path


def seal(record: RunRecord, previous: str | None = None) -> RunRecord:
    """The record linked to its predecessor, checked, and with its own digest."""
    body = to_json(replace(record, previous=previous, digest=None))
    checked = record_from_json(json.loads(canonical(body)))
    return replace(checked, digest=_content_digest(checked))


def chained(records: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """Seals the records one after the other; the first begins a chain."""
    previous = None
    for unsealed in records:
        sealed = seal(unsealed, previous)
        previous = sealed.digest
        yield sealed


def write(record: RunRecord, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes a sealed record as a whole.

    Raises:
        RecordError: The record is not sealed, or the file exists and `overwrite` is false.
        WriteError: The file cannot be written.
    """
    path = Path(path)
    if record.digest is None or record.digest != _content_digest(record):
        raise RecordError(f"{path}: the record must be sealed before it is written")
    if path.exists() and not overwrite:
        raise RecordError(f"{path}: exists already; records are appended, not replaced")
    return write_text(path, canonical(to_json(record)) + "\n", overwrite=overwrite)


def read(path: str | Path) -> RunRecord:
    """The record in a file.

    Raises:
        RecordError: A single byte is not as it was written; the message names the file.
    """
    return _read(Path(path), record_from_json)


def read_outline(path: str | Path) -> RunRecord:
    """The outline of the record in a file (see `schema.outline`), all of which is checked.

    Raises:
        RecordError: As `read`.
    """
    return _read(Path(path), outline_from_json)


def _read(path: Path, parse: Callable[[Any], RunRecord]) -> RunRecord:
    if is_manifest(path):
        raise RecordError(f"{path}: holds the ids of a split and is no record; name a record")
    value, content = read_json(path)
    try:
        record = parse(value)
        written, digest = _written(value)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    if record.digest != digest:
        raise RecordError(
            f"{path}: the content does not have the digest that is written in it (changed after "
            "sealing)"
        )
    check_canonical(path, content, written)
    return record


def read_folder(path: str | Path) -> list[RunRecord]:
    """All records of a folder's *.json files, which must be one chain, the first record first."""
    return read_chain(record_files(path))


def read_chain(paths: Iterable[str | Path]) -> list[RunRecord]:
    """The records of these files in chain order.

    Raises:
        RecordError: They are no whole chain; the message names the first problem and its file.
    """
    stored = [StoredRecord(read(p), Path(p)) for p in paths]
    problems = chain_problems(stored)
    if problems:
        raise RecordError(problems[0])
    return [item.record for item in in_order(stored)]


def record_files(path: str | Path) -> list[Path]:
    """The *.json files of a folder by name.

    Raises:
        RecordError: It is no folder, or has none.
    """
    folder = Path(path)
    if not os.path.isdir(folder):
        raise RecordError(f"{folder}: not a folder")
    recover_near(folder)
    files = json_files(folder)
    if not files:
        inner = folder / "records"
        hint = f"; {inner} does" if inner.is_dir() and json_files(inner) else ""
        raise RecordError(f"{folder}: holds no records (*.json){hint}")
    return files


def tip(path: str | Path) -> str | None:
    """The digest that the next record of a folder takes as `previous`; None for the first one."""
    folder = Path(path)
    if not folder.exists() or (folder.is_dir() and not json_files(folder)):
        return None
    return read_folder(folder)[-1].digest


def in_force(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records without those that another one corrects (job["corrects"])."""
    corrected = {r.job["corrects"] for r in records if "corrects" in r.job}
    return [r for r in records if r.digest not in corrected]


def chain_problems(stored: Sequence[StoredRecord]) -> list[str]:
    """One line per fault of a chain.

    A fault is a repeated record, a fork, a missing predecessor, a wrong correction or a shared
    name.
    """
    problems: list[str] = []
    by_digest: dict[str | None, Path] = {}
    by_previous: dict[str | None, Path] = {}
    for record, path in stored:
        if record.digest in by_digest:
            problems.append(f"{path}: the same record as {by_digest[record.digest]}")
            continue
        by_digest[record.digest] = path
        if record.previous in by_previous:
            other = by_previous[record.previous]
            if record.previous is None:
                what = f"begins a chain, as {other} does; name records of several chains one by one"
            else:
                what = f"has the same previous record as {other} ({_short(record.previous)})"
            problems.append(f"{path}: {what}")
        by_previous.setdefault(record.previous, path)
    for record, path in stored:
        if record.previous is not None and record.previous not in by_digest:
            gone = f"its previous record {_short(record.previous)} is missing"
            problems.append(f"{path}: {gone}: it was taken away, or changed and sealed again")
    return problems or content_problems(in_order(stored))


def in_order(stored: Sequence[StoredRecord]) -> list[StoredRecord]:
    """The records from first to last, as far as each follows another.

    They are all of the records where `chain_problems` finds no break.
    """
    following = {item.record.previous: item for item in stored}
    ordered: list[StoredRecord] = []
    link: str | None = None
    while link in following and len(ordered) < len(stored):
        ordered.append(following[link])
        link = ordered[-1].record.digest
    return ordered


def json_files(folder: Path) -> list[Path]:
    """The folder's *.json files by name, without hidden ones and split manifests.

    Raises:
        RecordError: The folder cannot be read.
    """
    return [folder / name for name in sorted(record_names(folder))]


def record_names(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """The names of `json_files` in any order, for those who only count them.

    Args:
        folder: The folder.
        names: The names of all that is in it; listed where they are not given.

    Raises:
        RecordError: The folder cannot be read.
    """
    found = _visible(folder, ".json", names)
    lists = {n for n in found if n.endswith(MANIFEST) and is_manifest(folder / n)}
    return [n for n in found if n not in lists] if lists else found


def visible(folder: Path, ending: str) -> list[Path]:
    """What is in a folder under names that end so, by name, without hidden ones.

    Raises:
        RecordError: The folder cannot be read.
    """
    return [folder / name for name in sorted(_visible(folder, ending))]


def _visible(folder: Path, ending: str, names: Iterable[str] | None = None) -> list[str]:
    try:
        names = os.listdir(folder) if names is None else names
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror or error}") from None
    return [name for name in names if name.endswith(ending) and name[0] != "."]


def subject(record: RunRecord) -> tuple[str, str | None]:
    """What an evaluate record is about: the name of the model and the split.

    In one chain only one record about it is in force.
    """
    return record.name, record.inputs.get("split")


def content_problems(ordered: Sequence[StoredRecord]) -> list[str]:
    """One line per wrong correction or shared name of records in the order of their chain."""
    problems: list[str] = []
    corrected = {item.record.job["corrects"] for item in ordered if "corrects" in item.record.job}
    earlier: set[str | None] = set()
    named: dict[tuple[str, str | None], Path] = {}
    spelled: dict[str, str] = {}
    for record, path in ordered:
        target = record.job.get("corrects")
        if target is not None and target not in earlier:
            problems.append(
                f"{path}: corrects {_short(target)}, which is not an earlier record of the chain"
            )
        earlier.add(record.digest)
        if record.kind != "evaluate" or record.digest in corrected:
            continue
        twin = spelled.setdefault(appearance(record.name), record.name)
        if twin != record.name:
            problems.append(
                f"{path}: the name {record.name!r} looks like {twin!r}, another model of the chain"
            )
        if subject(record) in named:
            other = named[subject(record)]
            problems.append(
                f"{path}: evaluates {record.name!r} as {other} does; a correction sets job.corrects"
            )
        named.setdefault(subject(record), path)
    return problems


def _content_digest(record: RunRecord) -> str:
    body = to_json(record)
    del body["digest"]
    return value_digest(body)


def _written(value: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a record's file, and the digest of the record, from its parsed JSON.

    The text is made once for both: they differ in the field "digest" only.
    """
    before = canonical({k: v for k, v in value.items() if k < "digest"}, parsed=True)[:-1]
    after = canonical({k: v for k, v in value.items() if k > "digest"}, parsed=True)[1:]
    content = hashlib.sha256(f"{before},{after}".encode()).hexdigest()
    own = canonical(value["digest"], parsed=True)
    return f'{before},"digest":{own},{after}\n', f"sha256:{content}"


def _short(digest: str) -> str:
    return f"{digest[:19]}…"
