"""Where a bench keeps what is finished: one file for each cell, written as a whole, found again by
every plan and process.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from eigenforget import record
from eigenforget.core.errors import NotWritten
from eigenforget.core.locks import held
from eigenforget.experiments.bench.cells import Cell, Setting
from eigenforget.experiments.model_cache import ModelCache
from eigenforget.record import RecordError, RunRecord

Status = Literal["ok", "refused", "failed"]
Values = dict[str, float | None]
_STATUSES: tuple[Status, ...] = get_args(Status)
_STALE = 24 * 3600


class Anchors(NamedTuple):
    """Sealed records of what the methods of a setting stand beside: the original, then each oracle."""

    records: tuple[RunRecord, ...]

    @property
    def values(self) -> list[Values]:
        """Each oracle's scores by name, as it has them beside the others."""
        return [{score.name: score.value for score in item.scores} for item in self.records[1:]]

    @property
    def inputs(self) -> tuple[str, str]:
        """Digests of the data and of the split that they were measured on."""
        return self.records[0].inputs["data"], self.records[0].inputs["split"]


@dataclass(frozen=True)
class Store:
    """A folder: models/ (a ModelCache), anchors/<setting>/, cells/<cell>.<status>.json, running/.

    A file is there under its name only when it is whole, so that no moment of death leaves a half
    result. Several processes and benches may work in one store: what one has locked, others wait
    for or leave for later.
    """

    folder: Path
    bench: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)
    warn: Callable[[str], None] = field(default=lambda text: None, compare=False)

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def cache(self) -> ModelCache:
        return ModelCache(self.models, self.warn)

    def statuses(self) -> dict[str, Status]:
        """The status of each finished cell by its digest; one that failed once and is ok now is ok."""
        found: dict[str, Status] = {}
        names = os.listdir(self.folder / "cells") if (self.folder / "cells").is_dir() else ()
        for name in names:
            cell, _, rest = name.partition(".")
            status = rest.removesuffix(".json")
            if status in _STATUSES and len(cell) == 64 and found.get(f"sha256:{cell}") != "ok":
                found[f"sha256:{cell}"] = status
        return found

    def result(self, cell: Cell) -> RunRecord | None:
        """The cell's record; None where it is not finished. A damaged file is set aside (its name
        gets .damaged) and said through `warn`.
        """
        for status in _STATUSES:
            found = self._read(self._cell_path(cell, status), "cell", cell.digest)
            if found is not None:
                return found
        return None

    def keep(self, cell: Cell, unsealed: RunRecord) -> RunRecord:
        """Writes the cell's record in the place of one of an earlier try; a result stays where it
        is, whatever came of another try.

        Only for who has the cell's lock. Returns the record that is there now.
        """
        sealed = record.seal(unsealed, None)
        status = sealed.outcome.status
        kept = self.result(cell) if status != "ok" else None
        if kept is not None and kept.outcome.status == "ok":
            return kept
        path = self._cell_path(cell, status)
        _made(path.parent)
        record.write(sealed, path, overwrite=True)
        for other in _STATUSES:
            if other != status:
                self._cell_path(cell, other).unlink(missing_ok=True)
        return sealed

    def anchors(self, setting: Setting) -> Anchors | None:
        """None where they are not all measured yet. A damaged file is set aside and said through
        `warn`; all are then measured anew.
        """
        paths = self._anchor_paths(setting)
        found = [self._read(path, "setting", setting.digest) for path in paths]
        whole = [item for item in found if item is not None and item.outcome.status == "ok"]
        return Anchors(tuple(whole)) if len(whole) == len(paths) else None

    def keep_anchors(self, setting: Setting, unsealed: Sequence[RunRecord]) -> None:
        """Records of the original and of the oracles in their order; they count when all are there."""
        for path, item in zip(self._anchor_paths(setting), unsealed, strict=True):
            _made(path.parent)
            record.write(record.seal(item, None), path, overwrite=True)

    def locked(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Whether this process has the lock of this name, see core.locks.held."""
        return held(self.folder / ".locks" / f"{name}.lock", wait=wait)

    @contextmanager
    def running(self, task: str) -> Iterator[None]:
        """A mark while a task runs; one that stays tells that the task's process died."""
        mark = _made(self.folder / "running" / self.bench) / task
        try:
            mark.touch()
        except OSError as error:
            raise _not_written(mark, error) from None
        try:
            yield
        finally:  # which a killed process does not reach
            mark.unlink(missing_ok=True)

    def died(self) -> set[str]:
        """Tasks of this bench that began and did not end; the marks are taken away."""
        folder = self.folder / "running" / self.bench
        names = set(os.listdir(folder)) if folder.is_dir() else set()
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return names

    def tidy(self) -> None:
        """Removes this bench's marks, and drafts and marks a day old that dead processes left."""
        self.died()
        stale = time.time() - _STALE
        drafts = [
            *self.folder.glob("*/.*.tmp"),
            *self.folder.glob("anchors/*/.*.tmp"),
            *self.folder.glob("running/*/*"),
        ]
        for path in drafts:
            with suppress(FileNotFoundError):  # another bench tidies up as well
                if path.stat().st_mtime < stale:
                    path.unlink()
        for folder in self.folder.glob("running/*"):
            with suppress(OSError):  # not empty, or gone
                if folder.name == self.bench or folder.stat().st_mtime < stale:
                    folder.rmdir()

    def _cell_path(self, cell: Cell, status: str) -> Path:
        return self.folder / "cells" / f"{cell.digest[7:]}.{status}.json"

    def _anchor_paths(self, setting: Setting) -> list[Path]:
        folder = self.folder / "anchors" / setting.digest[7:]
        return [
            folder / "00-original.json",
            *(folder / f"{i:02d}-oracle-{i}.json" for i in range(1, len(setting.oracles) + 1)),
        ]

    def _read(self, path: Path, key: str, digest: str) -> RunRecord | None:
        """The record in the file, if it is whole and is that of this cell or setting."""
        if not path.exists():
            return None
        try:
            found = record.read(path)
            if found.job.get(key) == digest:
                return found
            problem = f"{path}: is the result of another {key}"
        except RecordError as error:
            problem = str(error)
        with suppress(FileNotFoundError):
            path.replace(path.with_suffix(f".{int(time.time())}.damaged"))
        self.warn(f"a result is damaged and is made anew by the next run: {problem}")
        return None


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from None
    return folder


def _not_written(path: Path, error: OSError) -> NotWritten:
    return NotWritten(f"{path}: cannot be written: {error.strerror or error}")
