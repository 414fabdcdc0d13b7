"""A study: one original, its retrained oracles and a list of methods, trained, unlearned and measured on one experiment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from eigenforget import record
from eigenforget.engine import Log
from eigenforget.evaluation import Panel, Role
from eigenforget.jobs import Experiment, Made, described, problem
from eigenforget.models import checkpoint
from eigenforget.record import RunRecord
from eigenforget.types import Diverged, EigenforgetError, Method, Refused

Watch = Callable[[str, int], Log]
"""watch(title, total rows) -> a log to be called once per row: how a caller shows progress."""


def unwatched(title: str, total: int) -> Log:
    """Shows nothing."""
    return lambda row: None


class Subject(NamedTuple):
    """A model to be measured, with what made it; or the reason why there is none."""

    name: str
    role: Role
    made: Made | Refused | Diverged
    job: Mapping[str, Any]
    trace: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Study:
    """Runs everything on one training seed. Oracles are retrained from `seed + 1`, `seed + 2`, … or from the seeds given.

    store: folder in which trained originals and oracles are kept as checkpoints and found again; None trains anew.
    """

    experiment: Experiment
    methods: Sequence[Method]
    seed: int = 0
    oracle_seeds: tuple[int, ...] = ()
    store: Path | None = None
    map_points: int = 800

    def subjects(self, watch: Watch = unwatched) -> Iterator[Subject]:
        """Original, oracles and unlearned models, one after the other. A method that refuses or diverges does not end the study."""
        original = self.original(watch)
        yield Subject("original", "original", original, {"seed": self.seed}, ())
        for number, seed in enumerate(self.oracle_seeds or (self.seed + 1, self.seed + 2), start=1):
            yield Subject(f"oracle {number}", "oracle", self.oracle(seed, watch), {"seed": seed}, ())
        for name, method in zip(display_names(self.methods), self.methods, strict=True):
            trace: list[Mapping[str, Any]] = []
            log = _both(trace.append, watch(f"unlearn: {name}", rows_of(method)))
            made = self._unlearned(original.model, method, log)
            yield Subject(name, method.role, made, {"seed": self.seed, "method": described(method)}, trace)

    def records(self, watch: Watch = unwatched) -> Iterator[RunRecord]:
        """A sealed evaluate record of each subject, chained in order; refused and failed methods have one too, without scores."""
        panel = replace(self.experiment.panel(seed=self.seed), map_points=self.map_points)
        previous = None
        for subject in self.subjects(watch):
            sealed = record.seal(self._record(subject, panel, watch), previous)
            previous = sealed.digest
            yield sealed

    def _record(self, subject: Subject, panel: Panel, watch: Watch) -> RunRecord:
        made, job = subject.made, dict(subject.job)
        if not isinstance(made, Made):
            return self.experiment.record("evaluate", subject.name, problem(made), role=subject.role, job=job)
        done = watch(f"measure: {subject.name}", 1)
        measured = panel.measure(made.model, subject.role)
        done({})
        return self.experiment.evaluation_record(subject.name, made, measured, job=job, trace=subject.trace)

    def _unlearned(self, model: nn.Module, method: Method, log: Log) -> Made | Refused | Diverged:
        try:
            return self.experiment.unlearn(model, method, seed=self.seed, log=log)
        except (Refused, Diverged) as error:
            return error

    def original(self, watch: Watch = unwatched) -> Made:
        """The model before unlearning, from the store where it is there."""
        return self._trained("original", self.seed, watch)

    def oracle(self, seed: int, watch: Watch = unwatched) -> Made:
        """A model retrained without the forget data, from the store where it is there."""
        return self._trained("oracle", seed, watch)

    def _trained(self, kind: str, seed: int, watch: Watch) -> Made:
        path = None if self.store is None else self.store / self._file(kind, seed)
        if path is not None and path.exists():
            return self._stored(path, kind)
        log = watch(f"train: {kind}, seed {seed}", self.experiment.recipe.epochs)
        made = self.experiment.train(seed=seed, without_forget=kind == "oracle", log=log)
        if path is not None and not path.exists():  # another process may have made the same model meanwhile
            path.parent.mkdir(parents=True, exist_ok=True)
            spent = {"seconds": f"{made.seconds:.3f}", "cost": json.dumps(dict(made.cost))}
            checkpoint.save(made.model, path, self._identity(kind) | spent)
        return made

    def _stored(self, path: Path, kind: str) -> Made:
        loaded = checkpoint.load_state(path)
        for key, value in self._identity(kind).items():
            if loaded.metadata.get(key) != value:
                raise EigenforgetError(f"{path} was made with {key} {loaded.metadata.get(key)!r}, this study has {value!r}")
        return Made(self.experiment.stored_model(loaded), float(loaded.metadata["seconds"]), json.loads(loaded.metadata["cost"]))

    def _file(self, kind: str, seed: int) -> str:
        """Oracles of different requests may share a store."""
        which = f"-{self.experiment.split.digest[7:15]}" if kind == "oracle" else ""
        return f"{kind}{which}-seed{seed}.safetensors"

    def _identity(self, kind: str) -> dict[str, str]:
        job = self.experiment.job()
        keys = ("data", "model", "recipe") + (("request",) if kind == "oracle" else ())
        return {key: job[key]["spec"] for key in keys}


def display_names(methods: Sequence[Method]) -> list[str]:
    """The methods' names, numbered where one stands more than once."""
    names = [m.name for m in methods]
    return [f"{n} {names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def rows_of(method: Method) -> int:
    """How many rows the method will log, as far as its fields tell; for a progress bar."""
    cycles = getattr(method, "alternations", None) or getattr(method, "epochs", None) or 1
    return 2 * cycles if "forget" in method.needs else cycles


def _both(first: Log, second: Log) -> Log:
    def log(row: Mapping[str, Any]) -> None:
        first(row)
        second(row)

    return log
