"""Kills every command that writes, at every step on the file system: python -m fuzz.kills.

Each run is a fork of one process that has loaded everything. An audit hook counts its steps: files
opened for writing, folders made, names changed and removed. At one of them the run is killed, or the
disk is full or read-only from there on. Then the old outputs must be whole, or the new ones; the
user's own files must be as they were; no draft may be left; and the same command must end as it
does when nobody disturbs it.
"""

from __future__ import annotations

import argparse
import errno
import functools
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

from eigenforget.cli import main as command
from eigenforget.cli.sequence import UNFINISHED
from eigenforget.record import RecordError, recover, weights_digest
from eigenforget.record.transactions import HIDDEN

_CREATING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = frozenset(
    ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
)
_PASSING = ("created", "digest", "previous", "environment")
"""Fields of a record in which two runs may differ."""
_LEFT_OUT = (".lock", ".index", ".index-journal", "mine", "mine.txt", UNFINISHED)
"""A lock and the notes of a ledger stay, a sequence keeps what is finished, and a user's files are looked at by themselves."""
_MINE = "the user's own\n"
_ALIKE = f"{HIDDEN}0123456789abcdef"
"""A user's own folder that merely looks like a draft."""
_TRAINED = (
    "--data", "digits()", "--model", "mlp(hidden=(8,))", "--recipe", "recipe(epochs=1, batch_size=256)",
)  # fmt: skip


class Job(NamedTuple):
    """A command that writes.

    Attributes:
        name: Of the command.
        argv: Its arguments.
        outputs: Files and folders that change together.
        before: The same command as it made the outputs that are there; () where there are none.
        overwrites: Whether it has the option.
    """

    name: str
    argv: tuple[str, ...]
    outputs: tuple[str, ...]
    before: tuple[str, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The arguments, with --overwrite where there is something."""
        return (*self.argv, "--overwrite") if self.before else self.argv


class Found(NamedTuple):
    """What a run left.

    Attributes:
        code: Its exit code; -9 where it was killed.
        said: What it printed as errors.
        steps: How many steps it took.
    """

    code: int
    said: str
    steps: int


Disturb = Callable[[int, str], None]
"""Called with the number and the kind of each step."""


def kill_at(number: int) -> Disturb:
    """The run ends before this step, without a word."""

    def disturb(step: int, event: str) -> None:
        del event
        if step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return disturb


def full_from(number: int) -> Disturb:
    """From this step on nothing new can be made."""

    def disturb(step: int, event: str) -> None:
        if step >= number and event in ("open", "os.mkdir", "os.link"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return disturb


def read_only_from(number: int) -> Disturb:
    """From this step on nothing can be changed."""

    def disturb(step: int, event: str) -> None:
        del event
        if step >= number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    return disturb


def run(
    argv: Sequence[str], folder: Path, disturb: Disturb | None = None, *, after: float | None = None
) -> Found:
    """Runs a command in a fork of this process, in this folder.

    Args:
        argv: The command.
        folder: Its working directory.
        disturb: What happens at its steps.
        after: Seconds after which it is killed.
    """
    told = folder.with_name(f"{folder.name}.told")
    child = os.fork()
    if child == 0:
        _in_child(argv, folder, told, disturb)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = told.read_text(errors="replace") if told.exists() else ""
    said, _, steps = text.rpartition("\n#")
    told.unlink(missing_ok=True)
    return Found(code, said, int(steps or 0)) if steps.isdigit() else Found(code, said + steps, 0)


def _in_child(argv: Sequence[str], folder: Path, told: Path, disturb: Disturb | None) -> None:
    code, count = 70, 0
    with open(told, "w", errors="backslashreplace") as errors, open(os.devnull, "w") as nothing:
        os.chdir(folder)
        sys.stdout, sys.stderr = nothing, errors
        place = str(folder)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event == "open":
                if isinstance(args[0], int) or not (args[2] or 0) & _CREATING:
                    return
            elif event not in _EVENTS:
                return
            path = os.fsdecode(args[0])
            if os.path.isabs(path) and not path.startswith(place):
                return
            count += 1
            if disturb is not None:
                disturb(count - 1, event)

        sys.addaudithook(hook)
        try:
            command(list(argv))
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException as error:  # an escape, which is what is looked for
            print(f"Traceback: {error!r}", file=errors)
        finally:
            print(f"\n#{count}", file=errors, end="", flush=True)
            os._exit(code)


def snapshot(folder: Path, outputs: Sequence[str]) -> dict[str, Path]:
    """The files of these outputs by name; locks are none."""
    found: dict[str, Path] = {}
    for output in outputs:
        path = folder / output
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found |= {
            str(file.relative_to(folder)): file
            for file in files
            if file.is_file() and not any(part in _LEFT_OUT for part in file.parts)
        }
    return found


def content(path: Path) -> Any:
    """What two runs of one command have in common in this file."""
    if path.suffix == ".safetensors":
        return weights_digest(path)
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        return _without_times(value) if "schema" in value and "outcome" in value else value
    if path.suffix in (".csv", ".jsonl") and "table" not in path.name:
        return path.read_bytes()
    return path.name


def _without_times(value: dict[str, Any]) -> dict[str, Any]:
    value = {key: item for key, item in value.items() if key not in _PASSING}
    value["outcome"] = {key: value["outcome"][key] for key in ("status", "reason")}
    value["inputs"] = {k: v for k, v in value["inputs"].items() if not k.startswith("file:")}
    value["series"] = {k: v for k, v in value["series"].items() if k != "trace"}
    value["job"] = {k: v for k, v in value["job"].items() if k != "corrects"}
    return value


class Ground:
    """Folders in which a job runs: as it was before, and as it is when nobody disturbs it.

    Args:
        job: The job.
        template: The folder as it was before.
        place: Where folders are made.
    """

    def __init__(self, job: Job, template: Path, place: Path) -> None:
        self.job, self.template, self.place = job, template, place
        whole = self.fresh("whole")
        started = time.perf_counter()
        found = run(job.asked, whole)
        self.seconds = time.perf_counter() - started
        if found.code not in (0, 1):
            raise SystemExit(f"{job.name} does not run undisturbed: {found}")
        self.steps = found.steps
        self.old = {
            name: path.read_bytes() for name, path in snapshot(template, job.outputs).items()
        }
        new = snapshot(whole, job.outputs)
        self.new = {name: content(path) for name, path in new.items()}
        self.changed = {
            name for name, path in new.items() if self.old.get(name) != path.read_bytes()
        }
        self.mine = self._user_files(template)

    def fresh(self, name: str) -> Path:
        """A copy of the folder as it was before."""
        shutil.rmtree(self.place / name, ignore_errors=True)
        return Path(shutil.copytree(self.template, self.place / name))

    def faults(self, folder: Path, found: Found, *, tidy: bool, again: bool) -> list[str]:
        """What is wrong with what a disturbed run left.

        Args:
            folder: Where it ran.
            found: How it ended.
            tidy: Whether it had to leave no draft.
            again: Whether the same command is run once more.
        """
        faults = []
        lines = found.said.strip().splitlines()
        if found.code not in (0, 1, 2, -9) or len([x for x in lines if "warning:" not in x]) > 1:
            faults.append(f"ended with {found.code}: {found.said[-300:]!r}")
        if tidy and self._drafts(folder):
            faults.append(f"left {self._drafts(folder)}")
        try:
            for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
                recover(place)
        except RecordError as error:
            faults.append(f"cannot recover: {error}")
        if self._drafts(folder):
            faults.append(f"not cleared: {self._drafts(folder)}")
        state = self.state(folder)
        faults += [] if state in ("old", "new") else [f"neither old nor new: {state}"]
        faults += [] if self._user_files(folder) == self.mine else ["changed the user's own files"]
        return faults + (self._again(folder, state) if again and not faults else [])

    def state(self, folder: Path) -> str:
        """ "old", "new", or which files are of neither."""
        files = snapshot(folder, self.job.outputs)
        if {name: path.read_bytes() for name, path in files.items()} == self.old:
            return "old"
        old = [name for name in self.changed if name in files and name in self.old]
        old = [name for name in old if files[name].read_bytes() == self.old[name]]
        if set(files) != set(self.new) or old:
            more, less = set(files) - set(self.new), set(self.new) - set(files)
            return f"old {old[:4]}, more {sorted(more)[:4]}, missing {sorted(less)[:4]}"
        other = [name for name, path in files.items() if content(path) != self.new[name]]
        return f"other content: {other[:4]}" if other else "new"

    def _again(self, folder: Path, state: str) -> list[str]:
        found = run(self.job.asked, folder)
        there = found.code == 2 and state == "new" and not self.job.before
        if found.code not in (0, 1) and not there:
            return [f"the same command again ends with {found.code}: {found.said[-300:]!r}"]
        after = self.state(folder)
        ledger = "ledger" in self.job.outputs and state == "new"  # then the run is on record twice
        return (
            []
            if after == "new" or ledger or not self.changed
            else [f"the same command again leaves {after}"]
        )

    def _drafts(self, folder: Path) -> list[str]:
        found = (str(path.relative_to(folder)) for path in folder.rglob(f"{HIDDEN}*"))
        return [name for name in found if name != _ALIKE]

    def _user_files(self, folder: Path) -> dict[str, str]:
        return {
            str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*mine*") if p.is_file()
        }


def _jobs() -> Iterator[Job]:
    """Every command that writes: where nothing is yet, and over what another run left."""
    skip = tuple(part for name in _left_out() for part in ("--skip", name))
    yield from _of_models(skip)
    yield from _of_studies(skip)
    for name, argv in (
        ("report", ("report", "r/records")),
        ("certificate", ("certificate", "u.json")),
        ("card", ("card", "r/records")),
        ("export", ("export", "r/records", "--format", "csv")),
    ):
        yield from _both(name, argv, ("--out", f"out/{name}"), f"out/{name}")
    yield Job("keygen", ("keygen", "k.pem", "--salt", "k.salt"), ("k.pem", "k.pub.pem"))
    signatures = tuple(f"r/records/{name}.json.sig" for name in ("00-original", "01-oracle-1"))
    yield Job("sign", ("sign", "r/records", "--key", "key.pem"), signatures)
    yield Job(
        "sign",
        ("sign", "r/records", "--key", "key.pem"),
        signatures,
        ("sign", "r/records", "--key", "key2.pem"),
    )
    yield Job("bench", (*_BENCH, "--out", "bout"), ("bout",))
    yield Job("leaderboard", ("leaderboard", "bench", "--into", "doc.md"), ())


def _both(name: str, argv: tuple[str, ...], out: tuple[str, ...], *outputs: str) -> Iterator[Job]:
    """A command where nothing is yet, and over what it left with another seed."""
    given = (*argv, *out)
    yield Job(name, given, outputs)
    yield Job(name, given, outputs, (*given, "--seed", "5") if name in _SEEDED else given)


def _of_models(skip: tuple[str, ...]) -> Iterator[Job]:
    """What makes models and measures them."""
    compared = ("--original", "o.safetensors", "--oracle", "oracle.safetensors", *_FORGET)
    ledger = ("--ledger", "ledger")
    yield from _both(
        "train",
        ("train", *_TRAINED, *ledger),
        ("--out", "t.safetensors"),
        "t.safetensors", "t.json", "ledger",
    )  # fmt: skip
    yield from _both(
        "unlearn",
        ("unlearn", "o.safetensors", *_FORGET, "--method", "finetune(epochs=1)"),
        ("--out", "u2.safetensors"),
        "u2.safetensors", "u2.json", "u2.split.json", "u2.json.sig",
    )  # fmt: skip
    yield from _both(
        "evaluate",
        ("evaluate", "u.safetensors", *compared, *skip, *ledger),
        ("--out", "results"),
        "results", "ledger",
    )  # fmt: skip
    yield from _both(
        "analyze",
        ("analyze", *compared),
        ("--out", "a.html"),
        "a.html", "a-records",
    )  # fmt: skip


def _of_studies(skip: tuple[str, ...]) -> Iterator[Job]:
    """What trains and unlearns many models, and the scores of samples."""
    steps = ("--forget", "by_class(label=3)", "--forget", "at_random(n=9)", "--again", "skip")
    yield from _both(
        "sequence",
        ("sequence", *_TRAINED, *steps, *skip, "--oracle-seed", "1", "--method", "head_mask()"),
        ("--out", "sequence"),
        "sequence",
    )
    yield from _both(
        "audit-metrics",
        ("audit-metrics", *_TRAINED, *_FORGET, "--seeds", "1", "--oracles", "3", *skip),
        ("--out", "audit"),
        "audit/by_class-label-3",
    )
    yield from _both(
        "scores",
        ("scores", "o.safetensors", "--score", "loss"),
        ("--out", "s.csv"),
        "s.csv",
    )


_FORGET = ("--forget", "by_class(label=3)")
_SEEDED = ("train", "unlearn", "evaluate", "analyze", "sequence")
_BENCH = ("bench", "plan.toml", "--backend", "sequential", "--threads", "1")
_PLAN = """
data = "digits()"
model = "mlp(hidden=(8,))"
recipe = "recipe(epochs=1, batch_size=256)"
[[grid]]
request = ["by_class(label=3)"]
method = ["head_mask()"]
seeds = [0]
oracles = [10, 11]
skip = SKIP
"""


_WIDE = {"bench": 7, "sequence": 2, "audit-metrics": 2, "certificate": 3, "card": 3, "export": 3}
"""Steps between two kills, of commands that are slow or take the way of another."""


def _left_out() -> list[str]:
    from eigenforget.evaluation.scoring import measurement_names

    return [name for name in measurement_names() if name != "accuracies"]


def prepare(folder: Path, *, whole: bool = True) -> None:
    """Makes the models, records and keys that the commands read, and files of the user's own.

    Args:
        folder: Where.
        whole: Whether more is needed than models and records.
    """
    folder.mkdir(parents=True)
    to_train = ("train", *_TRAINED)
    forget = ("--forget", "by_class(label=3)")
    skip = tuple(part for name in _left_out() for part in ("--skip", name))
    (folder / "plan.toml").write_text(_PLAN.replace("SKIP", json.dumps(_left_out())))
    for argv in (
        (*to_train, "--out", "o.safetensors"),
        (*to_train, "--seed", "1", "--without", "by_class(label=3)", "--out", "oracle.safetensors"),
        ("unlearn", "o.safetensors", *forget, "--method", "finetune(epochs=1)", "--out", "u.safetensors"),
        ("evaluate", "u.safetensors", "--original", "o.safetensors", "--oracle", "oracle.safetensors",
         *forget, *skip, "--out", "r"),
        *((
            ("keygen", "key.pem"),
            ("keygen", "key2.pem"),
            (*_BENCH, "--out", "bench", "--store", "store0"),
        ) if whole else ()),
    ):  # fmt: skip
        found = run(argv, folder)
        if found.code:
            raise SystemExit(f"cannot prepare: {argv[0]}: {found.said}")
    (folder / "doc.md").write_text(
        "# Mine\n<!-- leaderboard: bench -->\n<!-- end of leaderboard -->\nthe end\n"
    )
    for name in ("mine.txt", "results/mine.txt", ".results.draft/mine", ".t.safetensors.tmp/mine",
                 f"{_ALIKE}/mine", "sequence/mine", "ledger/mine.txt", "out/mine",
                 "r/mine"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_MINE)


def template_of(job: Job, fresh: Path, place: Path) -> Path:
    """The folder as it is before the job."""
    if not job.before:
        return fresh
    found = Path(shutil.copytree(fresh, place / "before"))
    made = run(job.before, found)
    if made.code not in (0, 1):
        raise SystemExit(f"cannot prepare {job.name}: {made.said}")
    if job.name == "unlearn":
        run(("sign", "u2.json", "--key", "key.pem"), found)
    return found


class Figures(NamedTuple):
    """What was found.

    Attributes:
        runs: Number of disturbed runs by what disturbed them.
        faults: What was wrong, each with the command and the step.
        steps: Steps by command.
    """

    runs: Counter[str]
    faults: list[str]
    steps: dict[str, int]


def check(job: Job, fresh: Path, place: Path, figures: Figures, every: dict[str, int]) -> None:
    """Disturbs one job in every way.

    Args:
        job: The job.
        fresh: The folder in which nothing has been written.
        place: Where to work.
        figures: Where to count.
        every: How many steps from one disturbance to the next, by kind; "again" counts reruns, and
            "moments" is the number of random moments.
    """
    ground = Ground(job, template_of(job, fresh, place), place)
    title = f"{job.name}{' --overwrite' if job.before else ''}"
    figures.steps[title] = ground.steps

    def one(kind: str, where: str, found: Found, folder: Path, *, tidy: bool, again: bool) -> None:
        figures.runs[kind] += 1
        faults = ground.faults(folder, found, tidy=tidy, again=again)
        figures.faults.extend(f"{title}: {kind} at {where}: {fault}" for fault in faults)

    ways = {"killed": kill_at, "full disk": full_from, "read-only": read_only_from}
    for kind, way in ways.items():
        for step in range(0, ground.steps, every[kind]):
            folder = ground.fresh("run")
            found = run(job.asked, folder, way(step))
            again = (step // every[kind]) % every["again"] == 0
            one(kind, f"step {step}", found, folder, tidy=kind == "full disk", again=again)
    draw = random.Random(title)
    for number in range(every["moments"]):
        folder, moment = ground.fresh("run"), draw.uniform(0, 1.1 * ground.seconds)
        found = run(job.asked, folder, after=moment)
        one("killed at random", f"{moment:.3f} s", found, folder, tidy=False, again=number % 3 == 0)


@contextmanager
def small_disk(size: int) -> Iterator[Path | None]:
    """A file system of this many bytes; None where there can be none."""
    place = Path(tempfile.mkdtemp())
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mounted, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield place if done else None
    finally:
        if done:
            subprocess.run(["umount", "-l", str(place)], check=False)
        place.rmdir()


def really_full(job: Job, fresh: Path, place: Path, figures: Figures) -> None:
    """Runs a job where the disk has room for parts of what it writes."""
    ground = Ground(job, template_of(job, fresh, place), place)
    size = functools.partial(subprocess.check_output, text=True)
    used = int(size(["du", "-sk", str(ground.template)]).split()[0]) * 1024
    for percent in (3, 10, 25, 40, 55, 70, 85):
        with small_disk(used + 400_000 * percent // 100) as disk:
            if disk is None:
                return
            folder = Path(shutil.copytree(ground.template, disk / "run"))
            found = run(job.asked, folder)
            figures.runs["no space left"] += 1
            faults = ground.faults(folder, found, tidy=True, again=False)
            where = f"{job.name}: {percent} % of a small disk"
            figures.faults.extend(f"{where}: {fault}" for fault in faults)


def main() -> None:
    """python -m fuzz.kills [--every N] [--only NAME] [--json FILE]"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="steps between two kills")
    parser.add_argument("--moments", type=int, default=4, help="random moments for each command")
    parser.add_argument("--slice", action="store_true", help="kills over old outputs alone")
    parser.add_argument("--only", action="append", default=[], help="name of a command")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    far = 10**6 if given.slice else 8 * given.every
    every = {
        "killed": given.every,
        "full disk": far,
        "read-only": far,
        "again": 7,
        "moments": 0 if given.slice else given.moments,
    }
    figures, started = Figures(Counter(), [], {}), time.perf_counter()
    load()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        fresh = Path(name, "fresh")
        prepare(fresh, whole=not given.slice)
        for number, job in enumerate(_jobs()):
            if (given.only and job.name not in given.only) or (given.slice and not job.before):
                continue
            place = Path(name, str(number))
            place.mkdir()
            wide = {**every, "killed": given.every * _WIDE.get(job.name, 1)}
            check(job, fresh, place, figures, wide)
            if job.name in ("train", "evaluate") and job.before and not given.slice:
                shutil.rmtree(place)
                place.mkdir()
                really_full(job, fresh, place, figures)
            shutil.rmtree(place)
            print(f"{job.name}: {dict(figures.runs)}, {len(figures.faults)} faults", flush=True)
    show(figures, time.perf_counter() - started, given.json)


def load() -> None:
    """Loads what the commands load, once, before anything is forked."""
    import importlib

    import torch

    torch.set_num_threads(1)
    from eigenforget.cli import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"eigenforget.cli.{name}")
    _train_once()
    os.fsync = lambda _: None  # type: ignore[assignment] # what is killed here is no machine
    gc.collect()
    gc.freeze()  # a fork that collects copies every page that it looks at


def _train_once() -> None:
    """Trains here, so that no fork loads what the first optimizer and the first data load: 1.5 s."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nothing,
        redirect_stdout(nothing),
        redirect_stderr(nothing),
        chdir(folder),
        suppress(SystemExit),
    ):
        command(["train", *_TRAINED, "--out", "o.safetensors"])


def show(figures: Figures, seconds: float, path: Path | None) -> None:
    """Prints the figures, writes them, and ends with code 1 where something was wrong."""
    shown = {
        "commands that were disturbed, new and over old outputs": len(figures.steps),
        "their steps on the file system": sum(figures.steps.values()),
        **{f"runs {kind}": count for kind, count in sorted(figures.runs.items())},
        "losses and escapes": len(figures.faults),
    }
    for name, value in shown.items():
        print(f"{value:8,}  {name}")
    print(f"{seconds:.0f} s")
    for fault in figures.faults[:60]:
        print(fault)
    if path is not None:
        told = {"figures": shown, "faults": figures.faults, "steps": figures.steps}
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(1 if figures.faults else 0)


if __name__ == "__main__":
    main()
