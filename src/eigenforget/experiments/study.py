"""A study: one original, its retrained oracles and a list of methods, trained, unlearned and
measured on one experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from eigenforget import record
from eigenforget.core.errors import Diverged, Refused
from eigenforget.evaluation.board import Board
from eigenforget.experiments.experiment import Experiment, described, problem
from eigenforget.experiments.model_cache import Kind, ModelCache
from eigenforget.methods.base import Method
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import RunRecord
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Log, Watch, both, unwatched


@dataclass(frozen=True)
class Study:
    """Runs everything on one training seed. Three oracles are retrained from the next seeds, or as
    many as seeds are given.

    store: folder in which trained originals and oracles are kept as checkpoints and found again;
    None trains anew.
    """

    experiment: Experiment
    methods: Sequence[Method]
    seed: int = 0
    oracle_seeds: tuple[int, ...] = ()
    store: Path | None = None
    map_points: int = 800

    def records(self, watch: Watch = unwatched) -> Iterator[RunRecord]:
        """A sealed evaluate record of the original, the oracles and each method's model, chained in
        order.

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
        yield self.experiment.evaluation_record(
            "original", original, board.measure_original(), job={"seed": self.seed}
        )
        done({})
        for number, (seed, made, found) in enumerate(
            zip(seeds, oracles, measured, strict=True), start=1
        ):
            yield self.experiment.evaluation_record(
                f"oracle {number}", made, found, job={"seed": seed}
            )
        for name, method in zip(display_names(self.methods), self.methods, strict=True):
            yield self._unlearned_record(name, method, original.model, board, watch)

    def _unlearned_record(
        self, name: str, method: Method, original: nn.Module, board: Board, watch: Watch
    ) -> RunRecord:
        trace: list[Mapping[str, Any]] = []
        job = {"seed": self.seed, "method": described(method)}
        made = self._unlearned(
            original, method, both(trace.append, watch(f"unlearn: {name}", method.log_rows))
        )
        if not isinstance(made, ModelAndCost):
            return self.experiment.record(
                "evaluate", name, problem(made), role=method.role, job=job
            )
        done = watch(f"measure: {name}", 1)
        measured = board.measure(made.model, method.role)
        done({})
        job |= unchanged_weights(original, made.model)
        return self.experiment.evaluation_record(name, made, measured, job=job, trace=trace)

    def _unlearned(
        self, model: nn.Module, method: Method, log: Log
    ) -> ModelAndCost | Refused | Diverged:
        try:
            return self.experiment.unlearn(model, method, seed=self.seed, log=log)
        except (Refused, Diverged) as error:
            return error

    def original(self, watch: Watch = unwatched) -> ModelAndCost:
        """The model before unlearning, from the store where it is there."""
        return self._trained("original", self.seed, watch)

    def oracle(self, seed: int, watch: Watch = unwatched) -> ModelAndCost:
        """A model retrained without the forget data, from the store where it is there."""
        return self._trained("oracle", seed, watch)

    def _trained(self, kind: Kind, seed: int, watch: Watch) -> ModelAndCost:
        def log() -> Log:
            return watch(f"train: {kind}, seed {seed}", self.experiment.recipe.epochs)

        if self.store is None:
            return self.experiment.train(seed=seed, without_forget=kind == "oracle", log=log())
        return ModelCache(self.store, warn=lambda text: watch(text, 1)({})).get(
            self.experiment, kind, seed, log
        )


def display_names(methods: Sequence[Method]) -> list[str]:
    """The methods' names, numbered where one stands more than once."""
    names = [m.name for m in methods]
    return [
        f"{n} {names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)
    ]
