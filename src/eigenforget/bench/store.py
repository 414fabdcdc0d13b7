"""Where a bench keeps what is finished: one file for each cell, written as a whole, found again by every plan and process."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from filelock import FileLock, Timeout

from eigenforget import record
from eigenforget.bench.cells import Cell, Setting
from eigenforget.model_cache import ModelCache
from eigenforget.record import RecordError, RunRecord, canonical, write_text

Status = Literal["ok", "refused", "failed"]
Values = dict[str, float]
_STATUSES: tuple[Status, ...] = get_args(Status)
_STALE = 24 * 3600


class Anchors(NamedTuple):
    """What the methods of a setting stand beside. values: each oracle's scores as it has them beside the others, by name."""

    data: str
    values: tuple[Values, ...]
    records: tuple[RunRecord, ...]


@dataclass(frozen=True)
class Store:
    """A folder: models/ (a ModelCache), anchors/<setting>/, cells/<cell>.<status>.json, running/.

    A file is there under its name only when it is whole, so that no moment of death leaves a half result. Several processes and benches
    may work in one store: what one has locked, others wait for or leave for later.
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
        """The cell's record; None where it is not finished. A damaged file is set aside (its name gets .damaged) and said through `warn`."""
        for status in _STATUSES:
            path = self._cell_path(cell, status)
            if not path.exists():
                continue
            try:
                return record.read(path)
            except RecordError as error:
                path.replace(path.with_suffix(f".{int(time.time())}.damaged"))
                self.warn(f"a result is damaged and is made anew by the next run: {error}")
        return None

    def keep(self, cell: Cell, unsealed: RunRecord) -> RunRecord:
        """Writes the cell's record, and then removes one of an earlier try."""
        sealed = record.seal(unsealed, None)
        path = self._cell_path(cell, sealed.outcome.status)
        _made(path.parent)
        record.write(sealed, path, overwrite=True)
        for status in _STATUSES:
            if status != sealed.outcome.status:
                self._cell_path(cell, status).unlink(missing_ok=True)
        return sealed

    def forget(self, cells: Iterable[Cell], statuses: Sequence[Status]) -> None:
        """Removes the records of these cells that have one of these statuses, so that they are run again."""
        for cell in cells:
            for status in statuses:
                self._cell_path(cell, status).unlink(missing_ok=True)

    def anchors(self, setting: Setting) -> Anchors | None:
        """None where they are not measured yet, or where a file of them is damaged: they are then measured anew."""
        folder = self._anchors_path(setting)
        try:
            about = json.loads((folder / "values.json").read_text(encoding="utf-8"))
            records = tuple(record.read(folder / name) for name in about["records"])
            return Anchors(about["data"], tuple(about["oracles"]), records)
        except (OSError, ValueError, LookupError, TypeError):  # RecordError is a ValueError
            return None

    def keep_anchors(self, setting: Setting, data: str, values: Sequence[Values], unsealed: Sequence[RunRecord]) -> None:
        """Records of the original and the oracles; values.json, written last, says that all are there."""
        folder = self._anchors_path(setting)
        _made(folder)
        (folder / "values.json").unlink(missing_ok=True)
        names = [f"{number:02d}-{item.name.replace(' ', '-')}.json" for number, item in enumerate(unsealed)]
        for name, item in zip(names, unsealed, strict=True):
            record.write(record.seal(item, None), folder / name, overwrite=True)
        write_text(folder / "values.json", canonical({"data": data, "oracles": list(values), "records": names}) + "\n")

    @contextmanager
    def locked(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Whether this process has the lock. It is the operating system's, so a process that dies leaves none."""
        path = _made(self.folder / ".locks") / f"{name}.lock"
        lock = FileLock(path, timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def running(self, task: str) -> Iterator[None]:
        """A mark while a task runs; one that stays tells that the task's process died."""
        mark = _made(self.folder / "running" / self.bench) / task
        mark.touch()
        yield
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
        drafts = [*self.folder.glob("*/.*.tmp"), *self.folder.glob("anchors/*/.*.tmp"), *self.folder.glob("running/*/*")]
        for path in drafts:
            if path.exists() and path.stat().st_mtime < stale:
                path.unlink(missing_ok=True)
        for folder in self.folder.glob("running/*"):
            if not any(folder.iterdir()) and (folder.name == self.bench or folder.stat().st_mtime < stale):
                folder.rmdir()

    def _cell_path(self, cell: Cell, status: str) -> Path:
        return self.folder / "cells" / f"{cell.digest[7:]}.{status}.json"

    def _anchors_path(self, setting: Setting) -> Path:
        return self.folder / "anchors" / setting.digest[7:]


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made: {error.strerror or error}") from None
    return folder
