"""Runs one input and says how it ended: refused, answered, at the door of the work, or escaped."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import re
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

from eigenforget import record
from eigenforget.cli import main
from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.bench.run import Bench
from eigenforget.record import RecordError
from eigenforget.training.engine import Engine

SECONDS, WAITING = 20, 10
"""An input that takes more seconds of processor time, or ten times as many in all, is a hang."""

_EXITS = {0: "answered", 1: "answered no", 2: "refused"}


class Reached(BaseException):
    """The input is valid and the work would begin now. It is not done here.

    It is no Exception, so that nobody on the way takes it for an error of the input.
    """


class Hang(BaseException):
    """The input took longer than it may."""


class Outcome(NamedTuple):
    """How one input ended.

    Attributes:
        kind: "refused" with one line, "answered", "answered no" (exit code 1), "reached" the work,
            or "escape".
        where: Of an escape: what kind it is and where it came from, the same for all of one cause.
        detail: Of an escape: the traceback or the lines that were printed.
    """

    kind: Literal["refused", "answered", "answered no", "reached", "escape"]
    where: str = ""
    detail: str = ""


class Workspace:
    """A copy of the base files, in which one input after the other runs.

    Args:
        base: The folder with the base files.
        folder: The folder of the copy.
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self._base, self.folder = base, folder
        shutil.copytree(base, folder)
        self._clean = self.listing()

    def restored(self) -> Path:
        """The folder, as it was at the beginning."""
        if self.listing() != self._clean:
            for path in self.folder.rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
            shutil.rmtree(self.folder)
            shutil.copytree(self._base, self.folder)
            self._clean = self.listing()
        return self.folder

    def listing(self) -> set[tuple[str, int, int, int]]:
        """What is in the folder: names, sizes, and what changes with every write."""
        found = set()
        for place, folders, names in os.walk(self.folder):
            for name in (*folders, *names):
                stat = os.lstat(os.path.join(place, name))
                times = (0, 0) if name in folders else (stat.st_size, stat.st_mtime_ns)
                path = os.path.relpath(os.path.join(place, name), self.folder)
                found.add((path, *times, stat.st_ino))
        return found


def of_command(argv: Sequence[str], space: Workspace) -> Outcome:
    """How a command ends that runs in the workspace, which must be as before where it fails."""
    before, folder = space.listing(), space.folder
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _no_input(),
    ):
        outcome = _ending(lambda: main(list(argv)), exits=True)
    changed = sorted({name for name, *_ in space.listing() ^ before})
    store = argv[argv.index("--store") + 1 :][:1] if "--store" in argv else ()
    meant = ("new.store", *filter(None, store))
    strange = [n for n in changed if not n.startswith(meant) and not _meant(folder / n, n)]
    if outcome.kind == "reached" and argv[0] == "bench":
        strange = []  # it writes what is finished, however it ends
    return _judged(outcome, out.getvalue(), err.getvalue(), strange)


def of_call(call: Callable[[], Any], folder: Path) -> Outcome:
    """How a call in Python ends that runs in a folder: an EigenforgetError is a refusal."""
    with contextlib.chdir(folder), _no_input():
        return _ending(call, exits=False)


def _ending(call: Callable[[], Any], *, exits: bool) -> Outcome:
    try:
        with _limited(), warnings.catch_warnings():
            call()
    except Reached:
        return Outcome("reached")
    except SystemExit as ended:
        code = ended.code or 0
        if exits and code in _EXITS:
            return Outcome(_EXITS[code])  # type: ignore[index, arg-type]
        return Outcome("escape", f"exit {code!r}", traceback.format_exc())
    except (EigenforgetError, RecordError) as error:
        line = str(error)
        if exits or "\n" in line or len(line) > 4100:
            return Outcome("escape", f"{type(error).__name__} of several lines or too long", line)
        return Outcome("refused")
    except Hang:
        return Outcome("escape", f"hang in {_place(sys.exc_info()[2])}", traceback.format_exc())
    except BaseException as error:
        where = f"{type(error).__name__} in {_place(error.__traceback__)}"
        return Outcome("escape", where, traceback.format_exc())
    return Outcome("answered")


def _judged(outcome: Outcome, out: str, err: str, new: list[str]) -> Outcome:
    """The outcome, or the escape that the printed lines and the files that are left show."""
    told = ("warning: ", "error: ")  # "error: " are findings of verify
    lines = [line for line in err.splitlines() if not line.startswith(told)]
    shown = f"{out[-1500:]}\n--- stderr:\n{err[-3000:]}\n--- new files: {new}"
    if outcome.where.startswith("exit 3"):
        return Outcome("escape", _unexpected(err), shown + _reports(err))
    if outcome.kind == "escape":
        return outcome._replace(detail=outcome.detail[-6000:] + shown)
    if "Traceback" in err:
        return Outcome("escape", f"traceback printed: {lines[-1][:80]}", shown)
    if outcome.kind == "refused" and len(lines) > 1:
        return Outcome("escape", f"{min(len(lines), 3)} lines of error: {lines[1][:60]}", shown)
    if outcome.kind == "refused" and max(map(len, lines), default=0) > 4100:
        return Outcome("escape", f"a line too long: {lines[0][:60]}", shown)
    if outcome.kind in ("refused", "reached") and new:
        return Outcome("escape", f"left after {outcome.kind}: {_nameless(new[0])}", shown)
    return outcome


def _unexpected(err: str) -> str:
    """The cause of an exit with code 3, from the line that is printed."""
    return f"exit 3: {err.strip()[:120]}"


def _reports(err: str) -> str:
    """The traceback files that the error names."""
    paths = [Path(word.strip("\"'.,;:")) for word in err.split() if "eigenforget" in word]
    return "".join(p.read_text(errors="replace")[-4000:] for p in paths if p.is_file())


def _place(trace: Any) -> str:
    """The last place in this package that a traceback goes through."""
    frames = [f for f in traceback.extract_tb(trace) if "eigenforget/" in f.filename]
    if not frames:
        return "the library"
    last = frames[-1]
    return f"{last.filename.rpartition('eigenforget/')[2]}:{last.lineno} {last.name}"


def _meant(path: Path, name: str) -> bool:
    """Whether a file is there on purpose: the record of a refused method, or a lock."""
    if ".locks" in Path(name).parts:
        return True
    path = path.with_name(path.name.replace(".split.json", ".json"))
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        return record.read(path).outcome.status != "ok"
    except RecordError:
        return False


def _nameless(name: str) -> str:
    return re.sub(r"[0-9a-f]{8,}", "*", name)


@contextlib.contextmanager
def _no_input() -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.StringIO("")
    try:
        yield
    finally:
        sys.stdin = before


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hang

    # Work is counted in processor time, so that a loaded machine is no hang; who waits, in real time.
    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WAITING * SECONDS),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for which, seconds in timers.values():
        signal.setitimer(which, seconds)
    # Where a library waits without a look at signals, the process ends and says where it was.
    faulthandler.dump_traceback_later(2 * WAITING * SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        for which, _ in timers.values():
            signal.setitimer(which, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopped_before_the_work() -> Iterator[None]:
    """Nothing trains, runs a model or starts a process: whoever would do so raises Reached."""
    from eigenforget import cli

    def reached(*_: Any, **__: Any) -> Any:
        raise Reached

    places = [(Engine, "placed"), (Bench, "run"), (cli, "supervise")]
    kept = [(owner, name, getattr(owner, name)) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, reached)
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
