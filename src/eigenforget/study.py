"""A study: one original, its retrained oracles and a list of methods, trained, unlearned and measured on one experiment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from eigenforget import record
from eigenforget.engine import Log
from eigenforget.evaluation import Board
from eigenforget.jobs import Experiment, Made, described, problem
from eigenforget.models import checkpoint
from eigenforget.record import RunRecord
from eigenforget.types import Diverged, EigenforgetError, Method, Refused

Watch = Callable[[str, int], Log]
"""watch(title, total rows) -> a log to be called once per row: how a caller shows progress."""


def unwatched(title: str, total: int) -> Log:
    """Shows nothing."""
    return lambda row: None


@dataclass(frozen=True)
class Study:
    """Runs everything on one training seed. Three oracles are retrained from the next seeds, or as many as seeds are given.

    store: folder in which trained originals and oracles are kept as checkpoints and found again; None trains anew.
    """

    experiment: Experiment
    methods: Sequence[Method]
    seed: int = 0
    oracle_seeds: tuple[int, ...] = ()
    store: Path | None = None
    map_points: int = 800

    def records(self, watch: Watch = unwatched) -> Iterator[RunRecord]:
        """A sealed evaluate record of the original, the oracles and each method's model, chained in order.

        A method that refuses or diverges does not end the study; its record has no scores.
        """
        return record.chained(self._records(watch))

    def _records(self, watch: Watch) -> Iterator[RunRecord]:
        original = self.original(watch)
        seeds = self.oracle_seeds or (self.seed + 1, self.seed + 2, self.seed + 3)
        oracles = [self.oracle(seed, watch) for seed in seeds]
        panel = replace(self.experiment.panel(seed=self.seed), map_points=self.map_points)
        board = Board(panel, [original.model], [oracle.model for oracle in oracles])
        done = watch("measure: oracles and original", 1)
        measured = [board.measure_oracle(number) for number in range(len(oracles))]
        yield self.experiment.evaluation_record("original", original, board.measure_original(), job={"seed": self.seed})
        done({})
        for number, (seed, made, found) in enumerate(zip(seeds, oracles, measured, strict=True), start=1):
            yield self.experiment.evaluation_record(f"oracle {number}", made, found, job={"seed": seed})
        for name, method in zip(display_names(self.methods), self.methods, strict=True):
            yield self._unlearned_record(name, method, original.model, board, watch)

    def _unlearned_record(self, name: str, method: Method, original: nn.Module, board: Board, watch: Watch) -> RunRecord:
        trace: list[Mapping[str, Any]] = []
        job = {"seed": self.seed, "method": described(method)}
        made = self._unlearned(original, method, both(trace.append, watch(f"unlearn: {name}", rows_of(method))))
        if not isinstance(made, Made):
            return self.experiment.record("evaluate", name, problem(made), role=method.role, job=job)
        done = watch(f"measure: {name}", 1)
        measured = board.measure(made.model, method.role)
        done({})
        return self.experiment.evaluation_record(name, made, measured, job=job, trace=trace)

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
            if key == "request":  # one request may be spelled in two ways; the file's name says the split
                continue
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


def both(first: Log, second: Log) -> Log:
    """A log that hands each row to two."""
    def log(row: Mapping[str, Any]) -> None:
        first(row)
        second(row)

    return log
