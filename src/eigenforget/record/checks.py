"""Compares what a record says about files with the files themselves.

These are their bytes, the weights in checkpoints and the ids of the split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from .canonical import RecordError
from .digests import file_digest, weights_digest
from .manifest import read_manifest
from .schema import RunRecord
from .store import StoredRecord

FILE = "file:"
"""inputs and outcome.outputs name a file as "file:<its name>", with the digest of its bytes."""
_MODELS = ("input_model", "checked_model", "model")
"""Names of digests over the weights of a model."""
_WEIGHTS = ".safetensors"


class VerifyFinding(NamedTuple):
    """One thing that was checked.

    Args:
        status: "ok", "error" or "not checked".
        where: A file or folder.
        what: What was found, in one line.
    """

    status: Literal["ok", "error", "not checked"]
    where: str
    what: str


class Files:
    """The files that a record may mean, with their digests, each computed once.

    They are those beside the record, one folder up, and anywhere below further folders.

    Args:
        folders: The further folders.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self._below: dict[str, list[Path]] = {}
        for folder in folders:
            if not folder.is_dir():
                raise RecordError(f"{folder}: not a folder")
            for place, _, names in sorted(os.walk(folder)):
                for name in sorted(names):
                    self._below.setdefault(name, []).append(Path(place, name))
        self._bytes: dict[Path, str | RecordError] = {}
        self._weights: dict[Path, str | RecordError] = {}

    def named(self, name: str, record: Path) -> list[Path]:
        """Files of this name, nearest first."""
        near = [
            path for path in (record.parent / name, record.parent.parent / name) if path.is_file()
        ]
        return list(dict.fromkeys([*near, *self._below.get(name, ())]))

    def checkpoints(self, record: Path) -> list[Path]:
        """All .safetensors files, those beside the record first."""
        further = (
            path for name, paths in self._below.items() if name.endswith(_WEIGHTS) for path in paths
        )
        return list(dict.fromkeys([*sorted(record.parent.glob(f"*{_WEIGHTS}")), *further]))

    def bytes_digest(self, path: Path) -> str:
        """The digest of the bytes of a file."""
        return _known(self._bytes, path, file_digest)

    def weights_digest(self, path: Path) -> str:
        """The digest of the weights in a checkpoint."""
        return _known(self._weights, path, weights_digest)

    def has_weights(self, path: Path, digest: str) -> bool:
        """Whether it is a readable checkpoint of these weights."""
        try:
            return self.weights_digest(path) == digest
        except RecordError:
            return False  # its own check says that it cannot be read


def file_findings(stored: Sequence[StoredRecord], files: Files) -> list[VerifyFinding]:
    """What can be said about the files of these records, each thing once."""
    known = {digest for item in stored for _, digest in _named(item.record)}
    found: dict[VerifyFinding, None] = {}
    for item in stored:
        for finding in (*_files(item, files, known), *_models(item, files), *_splits(item, files)):
            found[finding] = None
    return list(found)


def _named(record: RunRecord) -> Iterator[tuple[str, str]]:
    """(name, digest) of every file that the record names."""
    for digests in (record.inputs, record.outcome.outputs):
        yield from (
            (key.removeprefix(FILE), digest)
            for key, digest in digests.items()
            if key.startswith(FILE)
        )


def _files(item: StoredRecord, files: Files, known: set[str]) -> Iterator[VerifyFinding]:
    for name, digest in _named(item.record):
        if name != Path(name).name or name in ("", ".", ".."):
            yield VerifyFinding(
                "error", str(item.path), f"names the file {name!r}, which is no plain name"
            )
            continue
        try:
            yield _file(item, name, digest, files, known)
        except RecordError as error:
            yield _refused(error, item.path.parent / name)


def _file(
    item: StoredRecord, name: str, digest: str, files: Files, known: set[str]
) -> VerifyFinding:
    found = files.named(name, item.path)
    for path in found:
        if files.bytes_digest(path) == digest:
            return VerifyFinding("ok", str(path), f"the file of {digest}")
    # A file that another record names is another file of this name, and not this one changed.
    strange = [path for path in found if files.bytes_digest(path) not in known]
    if not strange:
        return VerifyFinding(
            "not checked", str(item.path.parent / name), "not found; name its folder with --files"
        )
    path = strange[0]
    why = (
        f"not the file that {item.path.name} names: its bytes were changed, or it is another one "
        f"({files.bytes_digest(path)})"
    )
    return VerifyFinding("error", str(path), why + _which(path, item.record, files))


def _which(path: Path, record: RunRecord, files: Files) -> str:
    """Which part of a checkpoint is wrong."""
    if path.suffix != _WEIGHTS:
        return ""
    try:
        same = files.weights_digest(path) in {d for _, d in _model_digests(record)}
    except RecordError as error:
        return "; " + str(error).removeprefix(f"{path}: ")
    return (
        "; its weights are those of the record, its header is not"
        if same
        else "; its weights are not those of the record"
    )


def _models(item: StoredRecord, files: Files) -> Iterator[VerifyFinding]:
    own = dict(_named(item.record))
    for key, digest in _model_digests(item.record):
        name = _file_name(item, key)
        found = files.named(name, item.path) if name else []
        holder = next(
            (
                path
                for path in (*found, *files.checkpoints(item.path))
                if files.has_weights(path, digest)
            ),
            None,
        )
        if holder is not None:
            yield VerifyFinding("ok", str(holder), f"the weights of {digest}")
        elif not found:
            if name not in own:  # otherwise the file itself was reported
                yield VerifyFinding(
                    "not checked",
                    str(item.path),
                    f"{key} {digest}: no checkpoint with these weights; name its folder with "
                    "--files",
                )
        elif any(files.bytes_digest(path) == own.get(name) for path in found):
            why = (
                "the file is the one of the record; its weights cannot be compared (buffers not "
                "saved, another number type or format)"
            )
            yield VerifyFinding("not checked", str(found[0]), f"{key} {digest}: {why}")
        elif name not in own:
            yield VerifyFinding(
                "error",
                str(found[0]),
                f"its weights are not those that {item.path.name} names ({key} {digest})",
            )


def _model_digests(record: RunRecord) -> list[tuple[str, str]]:
    both = {**record.inputs, **record.outcome.outputs}
    return [(key, both[key]) for key in _MODELS if key in both]


def _file_name(item: StoredRecord, key: str) -> str:
    """The name of the checkpoint, as far as the record gives it.

    Records from before there were "file:" entries give it in other ways.
    """
    record = item.record
    if key == "checked_model":
        return str(record.job.get("checkpoint", ""))
    digests = record.outcome.outputs if key == "model" else record.inputs
    named = [
        name.removeprefix(FILE)
        for name in digests
        if name.startswith(FILE) and not name.endswith(".json")
    ]
    return named[0] if named else item.path.with_suffix(_WEIGHTS).name if key == "model" else ""


def _splits(item: StoredRecord, files: Files) -> Iterator[VerifyFinding]:
    """The split's digest, computed again from the manifest of ids that the record names."""
    told = item.record.inputs.get("split")
    if told is None:
        return
    named = [(name, digest) for name, digest in _named(item.record) if name.endswith("split.json")]
    if not named:
        yield VerifyFinding(
            "not checked", str(item.path.parent), f"split {told}: its records name no list of ids"
        )
        return
    for name, digest in named:
        for path in files.named(name, item.path):
            try:
                if files.bytes_digest(path) == digest:
                    yield _split(path, told)
                    return
            except RecordError as error:
                yield _refused(error, path)


def _split(path: Path, told: str) -> VerifyFinding:
    found = read_manifest(path)
    if found.digest != told:
        return VerifyFinding(
            "error", str(path), f"its ids have the split digest {found.digest} and not {told}"
        )
    kind = "pseudonyms" if found.hashed else "ids"
    return VerifyFinding(
        "ok",
        str(path),
        f"split {told}, of {len(found.forget)} {kind} to forget and {len(found.retain)} to retain",
    )


def _refused(error: RecordError, path: Path) -> VerifyFinding:
    """The error as a finding; its message begins with the file where it is about one."""
    where, colon, what = str(error).partition(": ")
    return (
        VerifyFinding("error", where, what)
        if colon
        else VerifyFinding("error", str(path), str(error))
    )


def _known(found: dict[Path, str | RecordError], path: Path, compute: Callable[[Path], str]) -> str:
    if path not in found:
        try:
            found[path] = compute(path)
        except RecordError as error:
            found[path] = error
    result = found[path]
    if isinstance(result, RecordError):
        raise result
    return result
