"""Where a bench keeps its results: one file for each job, found again by every plan and process."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from eigenforget import record
from eigenforget.core.errors import EigenforgetError, NotWritten
from eigenforget.core.locks import held
from eigenforget.experiments.bench.jobs import MethodJob, StudySpec
from eigenforget.experiments.model_cache import ModelCache
from eigenforget.record import RecordError, RunRecord
from eigenforget.record.schema import Status

_STATUSES: tuple[Status, ...] = get_args(Status)
_STALE_SECONDS = 24 * 3600
_Place = tuple[Any, ...]
"""What the name of a file says of the record in it."""


class Baselines(NamedTuple):
    """Sealed records of the original and of each oracle, which methods stand beside."""

    records: tuple[RunRecord, ...]

    @property
    def values(self) -> list[dict[str, float | None]]:
        """Each oracle's scores by name, as it has them beside the others."""
        return [{score.name: score.value for score in item.scores} for item in self.records[1:]]

    @property
    def inputs(self) -> tuple[str, str]:
        """Digests of the data and of the split that they were measured on."""
        return self.records[0].inputs["data"], self.records[0].inputs["split"]


def _ignore(line: str) -> None:
    """Shows no warning."""
    del line


@dataclass(frozen=True)
class Store:
    """A folder of trained models, measured baselines and finished jobs.

    It holds models/ (a ModelCache), baselines/STUDY/, jobs/JOB.STATUS.json and running/. A file
    has its name only when it is whole, so that no moment of death leaves half a result. Several
    processes and benches may work in one store: what one has locked, others wait for or leave for
    later.

    Attributes:
        folder: The folder.
        run: Tells the marks of this run from those of others.
        warn: Called with a line about each damaged file.
    """

    folder: Path
    run: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)
    warn: Callable[[str], None] = field(default=_ignore, compare=False)

    @classmethod
    def at(cls, folder: str | Path, warn: Callable[[str], None] = _ignore) -> Store:
        """The store in this folder.

        Raises:
            EigenforgetError: It is a file.
        """
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise EigenforgetError(f"--store {path} is a file; a store is a folder")
        return cls(path.absolute(), warn=warn)

    def cache(self, threads: int | None = None) -> ModelCache:
        """The models trained on this number of threads; None: as many as torch uses now."""
        return ModelCache(self.folder / "models", self.warn, threads)

    def statuses(self) -> dict[str, Status]:
        """The status of each finished job by its digest; what failed once and is ok now is ok."""
        found: dict[str, Status] = {}
        folder = self.folder / "jobs"
        for name in os.listdir(folder) if folder.is_dir() else ():
            digest, _, rest = name.partition(".")
            for status in _STATUSES:
                if rest == f"{status}.json" and len(digest) == 64:
                    known = found.get(f"sha256:{digest}")
                    found[f"sha256:{digest}"] = "ok" if known == "ok" else status
        return found

    def result(self, job: MethodJob) -> RunRecord | None:
        """The record of a job; None where it is not finished.

        A damaged file is set aside under a name that ends in .damaged, with a warning.
        """
        for status in _STATUSES:
            found = self._read(self._job_path(job, status), _job_place, (job.digest, status))
            if found is not None:
                return found
        return None

    def write_result(self, job: MethodJob, unsealed: RunRecord) -> RunRecord:
        """Writes the record of a job in the place of that of an earlier try.

        A result stays where it is, whatever came of a later try. Only for the process that has
        locked the job.

        Returns:
            The record that is there now.
        """
        sealed = record.seal(unsealed, None)
        status = sealed.outcome.status
        earlier = self.result(job) if status != "ok" else None
        if earlier is not None and earlier.outcome.status == "ok":
            return earlier
        self._write(sealed, self._job_path(job, status))
        for other in _STATUSES:
            if other != status:
                self._job_path(job, other).unlink(missing_ok=True)
        return sealed

    def baselines(self, study: StudySpec) -> Baselines | None:
        """None where they are not all measured yet, or one of their files is damaged."""
        paths = self._baseline_paths(study)
        names = ["original", *(f"oracle {i}" for i in range(1, len(paths)))]
        seeds = (study.seed, *study.oracles)
        found = [
            self._read(path, _baseline_place, (study.digest, name, seed))
            for path, name, seed in zip(paths, names, seeds, strict=True)
        ]
        whole = [item for item in found if item is not None and item.outcome.status == "ok"]
        return Baselines(tuple(whole)) if len(whole) == len(paths) else None

    def write_baselines(self, study: StudySpec, unsealed: Sequence[RunRecord]) -> None:
        """Writes the records of the original and of the oracles, in this order."""
        for path, item in zip(self._baseline_paths(study), unsealed, strict=True):
            self._write(record.seal(item, None), path)

    def locked(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Whether this process has the lock of this name, see `core.locks.held`."""
        return held(self.folder / ".locks" / f"{name}.lock", wait=wait)

    @contextmanager
    def running(self, job_id: str) -> Iterator[None]:
        """A mark while a job runs; one that stays tells that the job's process died."""
        mark = _made(self.folder / "running" / self.run) / job_id
        try:
            mark.touch()
        except OSError as error:
            raise _not_written(mark, error) from None
        try:
            yield
        finally:  # which a killed process does not reach
            mark.unlink(missing_ok=True)

    def died(self) -> set[str]:
        """Ids of jobs of this run that began and did not end; their marks are taken away."""
        folder = self.folder / "running" / self.run
        names = set(os.listdir(folder)) if folder.is_dir() else set()
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return names

    def tidy(self) -> None:
        """Removes this run's marks, drafts of dead processes, and marks of theirs a day old."""
        self.died()
        stale = time.time() - _STALE_SECONDS
        for place in (*self.folder.glob("*"), *self.folder.glob("baselines/*")):
            record.recover(place)
        for path in self.folder.glob("running/*/*"):
            with suppress(FileNotFoundError):  # another bench tidies up as well
                if path.stat().st_mtime < stale:
                    path.unlink()
        for folder in self.folder.glob("running/*"):
            with suppress(OSError):  # not empty, or gone
                if folder.name == self.run or folder.stat().st_mtime < stale:
                    folder.rmdir()

    def _job_path(self, job: MethodJob, status: str) -> Path:
        return self.folder / "jobs" / f"{job.digest[7:]}.{status}.json"

    def _baseline_paths(self, study: StudySpec) -> list[Path]:
        folder = self.folder / "baselines" / study.digest[7:]
        oracles = (f"{i:02d}-oracle-{i}.json" for i in range(1, len(study.oracles) + 1))
        return [folder / "00-original.json", *(folder / name for name in oracles)]

    def _write(self, sealed: RunRecord, path: Path) -> None:
        _made(path.parent)
        record.write(sealed, path, overwrite=True)

    def _read(
        self, path: Path, place_of: Callable[[RunRecord], _Place], told: _Place
    ) -> RunRecord | None:
        """The record in the file, if it is whole and the one of this place."""
        if not path.exists():
            return None
        try:
            found = record.read(path)
            if place_of(found) == told:
                return found
            fault = f"{path}: is another result, of {place_of(found)} and not of {told}"
        except RecordError as error:
            fault = str(error)
        with suppress(FileNotFoundError):
            path.replace(path.with_suffix(f".{int(time.time())}.damaged"))
        self.warn(f"a result is damaged and is made anew by the next run: {fault}")
        return None


def _job_place(item: RunRecord) -> _Place:
    """The job of a result, and how it ended."""
    return item.job.get("job_digest"), item.outcome.status


def _baseline_place(item: RunRecord) -> _Place:
    """The study of a measured original or oracle, its name and its seed."""
    return item.job.get("study_digest"), item.name, item.job.get("seed")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from None
    return folder


def _not_written(path: Path, error: OSError) -> NotWritten:
    return NotWritten(f"{path}: cannot be written: {error.strerror or error}")
