"""Compares what a record says about files with the files themselves.

These are their bytes, the weights in checkpoints and the ids of the split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from .canonical import RecordError
from .digests import file_digest, weights_digest
from .manifest import MANIFEST, read_manifest
from .schema import RunRecord
from .store import StoredRecord

FILE = "file:"
"""inputs and outcome.outputs name a file as "file:<its name>", with the digest of its bytes."""
_MODELS = ("input_model", "checked_model", "model")
"""Names of digests over the weights of a model."""
_WEIGHTS = ".safetensors"
_NO_MODELS = (".json", ".rows", ".py")
"""Endings of files that records name and that are no checkpoints."""


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
        self.unread: list[RecordError] = []
        """Folders that could not be looked into."""
        for folder in folders:
            if not os.path.isdir(folder):
                raise RecordError(f"{folder}: not a folder")
            for place, _, names in sorted(os.walk(folder, onerror=self._unread)):
                for name in sorted(names):
                    self._below.setdefault(name, []).append(Path(place, name))
        self._near: dict[tuple[str, Path], list[Path]] = {}
        self._checkpoints: dict[Path, list[Path]] = {}
        self._bytes: dict[Path, str | RecordError] = {}
        self._weights: dict[Path, str | RecordError] = {}

    def near(self, name: str, record: Path) -> list[Path]:
        """What lies under this name beside the record or one folder up, be it a file or not."""
        folder = record.parent
        if (name, folder) not in self._near:  # thousands of records name the same file
            places = dict.fromkeys((folder / name, folder.parent / name))
            self._near[name, folder] = [path for path in places if os.path.lexists(path)]
        return self._near[name, folder]

    def named(self, name: str, record: Path) -> list[Path]:
        """Everything of this name, nearest first."""
        return list(dict.fromkeys([*self.near(name, record), *self._below.get(name, ())]))

    def checkpoints(self, record: Path) -> list[Path]:
        """All .safetensors files, those beside the record first."""
        further = (
            path for name, paths in self._below.items() if name.endswith(_WEIGHTS) for path in paths
        )
        return list(dict.fromkeys([*self._beside(record.parent), *further]))

    def bytes_digest(self, path: Path) -> str:
        """The digest of the bytes of a file."""
        return _known(self._bytes, path, file_digest)

    def weights_digest(self, path: Path) -> str:
        """The digest of the weights in a checkpoint."""
        return _known(self._weights, path, weights_digest)

    def has_bytes(self, path: Path, digest: str) -> bool:
        """Whether it is a readable file of this content."""
        return _is(digest, self.bytes_digest, path)

    def has_weights(self, path: Path, digest: str) -> bool:
        """Whether it is a readable checkpoint of these weights."""
        return _is(digest, self.weights_digest, path)

    def _beside(self, folder: Path) -> list[Path]:
        """The checkpoints in a folder, which is listed once, however many records it holds."""
        if folder not in self._checkpoints:
            self._checkpoints[folder] = sorted(folder.glob(f"*{_WEIGHTS}"))
        return self._checkpoints[folder]

    def _unread(self, error: OSError) -> None:
        self.unread.append(
            RecordError(f"{error.filename}: cannot be looked into: {error.strerror or error}")
        )


class _NamedFile(NamedTuple):
    """A file that a record names: "file:NAME" among its inputs or outputs."""

    name: str
    digest: str
    is_output: bool

    @property
    def is_written(self) -> bool:
        """Whether the run wrote it beside its record: an output, or the ids of its split."""
        return self.is_output or self.name.endswith(MANIFEST)


class _Others(NamedTuple):
    """What other records of the chain say of files of the same names.

    Args:
        later: Digests of the outputs of later records, by name: such a file replaced this one.
        named: Digests of inputs and outputs of all records, by name.
    """

    later: Mapping[str, set[str]]
    named: Mapping[str, set[str]]


def file_findings(stored: Sequence[StoredRecord], files: Files) -> list[VerifyFinding]:
    """What can be said about the files of these records, each thing once.

    Args:
        stored: One record, or a chain from first to last.
        files: Where files may be.
    """
    named: dict[str, set[str]] = {}
    later: dict[str, set[str]] = {}
    for item in stored:
        for entry in _named(item.record):
            named.setdefault(entry.name, set()).add(entry.digest)
    found: list[list[VerifyFinding]] = []
    for item in reversed(stored):
        others = _Others(later, named)
        found.append([*_files(item, files, others), *_models(item, files), *_splits(item, files)])
        for entry in _named(item.record):
            if entry.is_output:
                later.setdefault(entry.name, set()).add(entry.digest)
    return list(dict.fromkeys(finding for findings in reversed(found) for finding in findings))


def _named(record: RunRecord) -> Iterator[_NamedFile]:
    """Every file that the record names."""
    for digests, is_output in ((record.inputs, False), (record.outcome.outputs, True)):
        for key, digest in digests.items():
            if key.startswith(FILE):
                yield _NamedFile(key.removeprefix(FILE), digest, is_output)


def _files(item: StoredRecord, files: Files, others: _Others) -> Iterator[VerifyFinding]:
    for entry in _named(item.record):
        name = entry.name
        if not _is_plain(name):
            yield _not_plain(item, name)
            continue
        try:
            yield _file(item, entry, files, others)
        except RecordError as error:
            yield _refused(error, item.path.parent / name)
    beside = item.path.with_suffix(_WEIGHTS)
    if item.record.outcome.status != "ok" and os.path.lexists(beside):
        yield VerifyFinding(
            "error",
            str(beside),
            f"lies beside {item.path.name}, which says that the run was "
            f"{item.record.outcome.status} and made no model",
        )


def _file(item: StoredRecord, entry: _NamedFile, files: Files, others: _Others) -> VerifyFinding:
    near, found = files.near(entry.name, item.path), files.named(entry.name, item.path)
    own = item.path.parent / entry.name
    # Beside the record lies what its run wrote; a copy elsewhere does not make up for another one.
    fixed = entry.is_written and own in near
    for path in [own] if fixed else found:
        if files.has_bytes(path, entry.digest):
            return VerifyFinding("ok", str(path), f"the file of {entry.digest}")
    if not found:
        what = "not found; name its folder with --files"
        return VerifyFinding("not checked", str(own), what)
    path = found[0]
    digest = files.bytes_digest(path)
    if digest in others.later.get(entry.name, ()):
        return VerifyFinding(
            "not checked", str(own), f"replaced: a later record of the chain made {path} ({digest})"
        )
    if not near and digest in others.named[entry.name]:
        what = "not found; the file of this name there is that of another record of the chain"
        return VerifyFinding("not checked", str(own), f"{what} ({path})")
    elsewhere = "if the right one is elsewhere, name its folder with --files"
    cure = "put the right one in its place" if fixed else elsewhere
    why = (
        f"not the file that {item.path.name} names as its "
        f"{'output' if entry.is_output else 'input'}: its bytes were changed, or it is another one "
        f"({digest} and not {entry.digest}); {cure}"
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


def _is_plain(name: str) -> bool:
    """Whether it names a file in a folder, and not a way to another one."""
    return name == Path(name).name and name not in ("", ".", "..")


def _not_plain(item: StoredRecord, name: str) -> VerifyFinding:
    what = f"names the file {name!r}, which is not a plain name"
    return VerifyFinding("error", str(item.path), what)


def _models(item: StoredRecord, files: Files) -> Iterator[VerifyFinding]:
    own = {entry.name: entry.digest for entry in _named(item.record)}
    for key, digest in _model_digests(item.record):
        name = _file_name(item, key)
        if name and not _is_plain(name):
            if name not in own:  # otherwise it was reported
                yield _not_plain(item, name)
            continue
        found = files.named(name, item.path) if name else []
        # Where no file has the name, any other may hold the weights, but for those that the record
        # names as something else.
        among = found or [p for p in files.checkpoints(item.path) if p.name not in own]
        holder = next((path for path in among if files.has_weights(path, digest)), None)
        if holder is not None:
            yield VerifyFinding("ok", str(holder), f"the weights of {key} {digest}")
        elif not found:
            if name not in own:  # otherwise the file itself was reported
                yield VerifyFinding(
                    "not checked",
                    str(item.path),
                    f"{key} {digest}: no checkpoint here has these weights; if it was kept, name "
                    "its folder with --files",
                )
        elif any(files.has_bytes(path, own.get(name, "")) for path in found):
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
        if name.startswith(FILE) and not name.endswith(_NO_MODELS)
    ]
    return named[0] if named else item.path.with_suffix(_WEIGHTS).name if key == "model" else ""


def _splits(item: StoredRecord, files: Files) -> Iterator[VerifyFinding]:
    """The split's digest, computed again from the manifest of ids that the record names."""
    told = item.record.inputs.get("split")
    if told is None:
        return
    named = [entry for entry in _named(item.record) if entry.name.endswith(MANIFEST)]
    if not named:
        yield VerifyFinding(
            "not checked", str(item.path.parent), f"split {told}: its records name no list of ids"
        )
    for entry in named:
        for path in files.named(entry.name, item.path):
            if files.has_bytes(path, entry.digest):
                try:
                    yield _split(path, told)
                except RecordError as error:
                    yield _refused(error, path)
                return


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


def _is(digest: str, compute: Callable[[Path], str], path: Path) -> bool:
    try:
        return compute(path) == digest
    except RecordError:
        return False  # its own check says that it cannot be read


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
