"""Fuzzes everything that reads: python -m fuzz.inputs --examples 20000.

Inputs are drawn and shrunk by Hypothesis, always the same ones. Nothing trains: a valid input ends
where the work would begin. It runs in a child process with limited memory and, where it was started
by root, as a user who cannot change the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import json
import os
import resource
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import Flaky, NoSuchExample
from hypothesis.strategies import SearchStrategy

from fuzz import bases
from fuzz.targets import TARGETS, Target
from fuzz.watching import Workspace, stopped_before_the_work

MEMORY = 3 * 2**30
"""Bytes beyond those in use at the beginning that an input may take."""
_NOBODY = 65534


class Finding(NamedTuple):
    """An escape, with the smallest input that was found for it."""

    target: str
    where: str
    example: str
    detail: str
    times: int


class Figures(NamedTuple):
    """What one run found.

    Attributes:
        inputs: Number of inputs by target.
        endings: Number of commands and calls by how they ended.
        findings: The escapes, one for each cause.
        seconds: Wall time.
    """

    inputs: dict[str, int]
    endings: dict[str, int]
    findings: list[Finding]
    seconds: float


def run_inputs(
    base: Path, examples: int, targets: Sequence[Target] = TARGETS, *, minimal: bool = True
) -> Figures:
    """Runs the inputs in this process."""
    started = time.monotonic()
    space = Workspace(base, base.parent / "work")
    tallies: list[Tally] = []
    with stopped_before_the_work():
        for target in targets:
            tally = Tally(target, space)
            drawn(target.inputs, tally.add, max(1, round(target.share * examples)))
            taken = time.monotonic() - started
            print(f"{target.name}: {tally.inputs} inputs, {taken:.0f} s", file=sys.stderr)
            tallies.append(tally)
        findings = [finding for tally in tallies for finding in tally.findings(minimal)]
    endings: Counter[str] = sum((tally.endings for tally in tallies), Counter())
    inputs = {tally.target.name: tally.inputs for tally in tallies}
    return Figures(inputs, dict(endings), findings, time.monotonic() - started)


class Tally:
    """Runs the inputs of one target and remembers what escaped, with the shortest input."""

    def __init__(self, target: Target, space: Workspace) -> None:
        self.target, self.space, self.inputs = target, space, 0
        self.endings: Counter[str] = Counter()
        self._times: Counter[str] = Counter()
        self._seen: dict[str, tuple[str, Any]] = {}

    def add(self, example: Any) -> None:
        """Runs one input."""
        self.inputs += 1
        for outcome in self.target.run(self.space, example):
            self.endings[outcome.kind] += 1
            if outcome.kind == "escape":
                self._times[outcome.where] += 1
                known = self._seen.get(outcome.where)
                if known is None:
                    print(f"{self.target.name}: {outcome.where}", file=sys.stderr, flush=True)
                if known is None or len(repr(example)) < len(repr(known[1])):
                    self._seen[outcome.where] = outcome.detail, example

    def findings(self, minimal: bool) -> list[Finding]:
        """The escapes, one for each cause."""
        found = []
        for where, (detail, example) in self._seen.items():
            smallest = _smallest(self, where, example) if minimal else example
            found.append(
                Finding(self.target.name, where, repr(smallest), detail, self._times[where])
            )
        return found


def drawn(inputs: SearchStrategy[Any], use: Callable[[Any], None], count: int) -> None:
    """Gives `count` inputs, always the same, to a function."""
    settled = settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settled(given(inputs)(use))()


def _smallest(tally: Tally, where: str, example: Any) -> Any:
    """A smaller input with the same escape, as Hypothesis shrinks it."""
    end = time.monotonic() + 10

    def same(item: Any) -> bool:
        if time.monotonic() > end:
            return False
        return any(o.where == where for o in tally.target.run(tally.space, item))

    quick = settings(
        max_examples=150, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    try:
        found = find(tally.target.inputs, same, settings=quick)
    except (NoSuchExample, Flaky):
        return example
    return min(found, example, key=lambda item: len(repr(item)))


def apart(work: Callable[[Path], Figures]) -> Callable[[], Figures]:
    """Begins work(folder) in a child process that can do no harm to this machine.

    Returns:
        A function that waits for the child and gives what it returned.
    """
    place = tempfile.TemporaryDirectory(
        prefix="eigenforget-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    result = Path(place.name) / "figures.json"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            gc.freeze()
            _confine(Path(place.name))
            found = work(Path(place.name))._asdict()
            result.write_text(json.dumps(found), encoding="utf-8")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait() -> Figures:
        _, status = os.waitpid(child, 0)
        with place:
            if status:
                raise SystemExit(f"the inputs ended their process: status {status}")
            found = json.loads(result.read_text(encoding="utf-8"))
        return Figures(**found | {"findings": [Finding(*item) for item in found["findings"]]})

    return wait


def _confine(folder: Path) -> None:
    """Limits the memory of this process, and takes the rights of root from it."""
    os.environ["HOME"] = str(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
        _become_nobody()


def _become_nobody() -> None:
    """Gives up the user root, but for its right to read: Python itself may lie in root's home."""
    library, keep_rights = ctypes.CDLL(None), 8
    library.prctl(keep_rights, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    version, may_read = 0x20080522, 1 << 2
    library.capset(struct.pack("Ii", version, 0), struct.pack("6I", may_read, may_read, *[0] * 4))


def together(parts: Sequence[Figures]) -> Figures:
    """The figures of several processes that ran at the same time."""
    inputs = {name: number for part in parts for name, number in part.inputs.items()}
    endings: Counter[str] = sum((Counter(part.endings) for part in parts), Counter())
    findings = [finding for part in parts for finding in part.findings]
    return Figures(inputs, dict(endings), findings, max(part.seconds for part in parts))


def main() -> None:
    """Runs the inputs and prints what escaped; exit code 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20000)
    parser.add_argument("--only", default="", help="one target alone")
    parser.add_argument("--raw", action="store_true", help="do not look for smaller inputs")
    parser.add_argument("--workers", type=int, default=1, help="processes among which to divide it")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    chosen = [target for target in TARGETS if options.only in ("", target.name)]
    shares = [chosen[number :: options.workers] for number in range(options.workers)]

    def work(folder: Path, targets: Sequence[Target]) -> Figures:
        with contextlib.redirect_stdout(None):
            bases.make(folder / "base")
        return run_inputs(folder / "base", options.examples, targets, minimal=not options.raw)

    waiting = [apart(functools.partial(work, targets=share)) for share in shares if share]
    found = together([wait() for wait in waiting])
    for item in found.findings:
        print(f"ESCAPE ({item.target}, {item.times} times): {item.where}")
        print(f"  input: {item.example[:1500]}")
        print("    " + item.detail[-2500:].replace("\n", "\n    "))
    print(json.dumps(found._replace(findings=len(found.findings))._asdict()))
    if options.json:
        options.json.write_text(json.dumps(found._asdict(), indent=1), encoding="utf-8")
    sys.exit(1 if found.findings else 0)


if __name__ == "__main__":
    main()
