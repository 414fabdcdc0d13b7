"""A study: an original, its oracles and the models of several methods, measured side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from eigenforget import record
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.board import Board, Measurement, Panel
from eigenforget.evaluation.records import own_measurement, with_verdicts
from eigenforget.experiments.experiment import Experiment, outcome_without_model
from eigenforget.experiments.model_cache import ModelCache, ModelKind
from eigenforget.methods.base import Method
from eigenforget.methods.certified_head import certificate_of
from eigenforget.models.unchanged import frozen_weights, unchanged_weights
from eigenforget.record import RunRecord
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Log, Watch, both, unwatched


def check_oracle_seeds(seeds: Sequence[int]) -> None:
    """Checks that no seed stands for two oracles.

    Raises:
        EigenforgetError: One does.
    """
    twice = [seed for n, seed in enumerate(seeds) if seed in seeds[:n]]
    if twice:
        raise EigenforgetError(
            f"oracle seed {twice[0]} is given twice; each oracle needs a seed of its own"
        )


@dataclass(frozen=True)
class Study:
    """Everything on one training seed.

    Attributes:
        experiment: Data, model, recipe and request.
        methods: The unlearning methods.
        seed: Of the original, the methods and the measurement.
        oracle_seeds: Of the oracles; by default the three next seeds.
        store: Folder in which trained originals and oracles are kept and found again; None trains
            anew.
        map_points: How many test samples go into the map of features.
        audits: Audits in the place of those of their names, or beside them.
    """

    experiment: Experiment
    methods: Sequence[Method]
    seed: int = 0
    oracle_seeds: tuple[int, ...] = ()
    store: Path | None = None
    map_points: int = 800
    audits: Sequence[Any] = ()

    def __post_init__(self) -> None:
        check_oracle_seeds(self.oracle_seeds)

    def records(self, watch: Watch = unwatched) -> Iterator[RunRecord]:
        """Sealed evaluate records of the original, the oracles and each method's model, one chain.

        A method that refuses or diverges does not end the study; its record has no scores.
        """
        return record.chained(self._records(watch))

    def _records(self, watch: Watch) -> Iterator[RunRecord]:
        original = self.original(watch)
        seeds = self.oracle_seeds or tuple(self.seed + i for i in (1, 2, 3))
        oracles = [self.oracle(seed, watch) for seed in seeds]
        panel = self.experiment.panel(
            seed=self.seed, map_points=self.map_points, audits=self.audits
        )
        board = Board(panel, [original.model], [oracle.model for oracle in oracles])
        done = watch("measure: oracles and original", 1)
        measured = [board.measure_oracle(number) for number in range(len(oracles))]
        beside = [self._record("original", original, board.measure_original(), panel, {})]
        done({})
        for number, (seed, oracle, found) in enumerate(
            zip(seeds, oracles, measured, strict=True), start=1
        ):
            beside.append(self._record(f"oracle {number}", oracle, found, panel, {"seed": seed}))
        yield from beside
        for name, method in zip(display_names(self.methods), self.methods, strict=True):
            item = self._unlearned_record(name, method, original.model, board, watch)
            yield with_verdicts([*beside, item])[-1]

    def _unlearned_record(
        self, name: str, method: Method, original: nn.Module, board: Board, watch: Watch
    ) -> RunRecord:
        trace: list[Mapping[str, Any]] = []
        job = {"seed": self.seed, "method": self.experiment.method_in_words(method)}
        log = both(trace.append, watch(f"unlearn: {name}", method.log_rows))
        result = self.experiment.try_unlearn(original, method, seed=self.seed, log=log)
        if not isinstance(result, ModelAndCost):
            return self.experiment.record(
                "evaluate", name, outcome_without_model(result), role=method.role, job=job
            )
        done = watch(f"measure: {name}", 1)
        measured = board.measure(result.model, method.role)
        done({})
        job |= unchanged_weights(original, after=result.model) | frozen_weights(
            original, after=result.model
        )
        job |= certificate_of(result.model)
        return self._record(name, result, measured, board.panel, job, trace)

    def _record(
        self,
        name: str,
        made: ModelAndCost,
        found: Measurement,
        panel: Panel,
        job: Mapping[str, Any],
        trace: Sequence[Mapping[str, Any]] = (),
    ) -> RunRecord:
        measurement, files = own_measurement(panel)
        return self.experiment.evaluation_record(
            name,
            made,
            found,
            job={"seed": self.seed, **measurement, **job},
            trace=trace,
            inputs=files,
        )

    def original(self, watch: Watch = unwatched) -> ModelAndCost:
        """The model before unlearning, from the store where it is there."""
        return self._trained("original", self.seed, watch)

    def oracle(self, seed: int, watch: Watch = unwatched) -> ModelAndCost:
        """A model retrained without the forget set, from the store where it is there."""
        return self._trained("oracle", seed, watch)

    def _trained(self, kind: ModelKind, seed: int, watch: Watch) -> ModelAndCost:
        def log() -> Log:
            return watch(f"train: {kind}, seed {seed}", self.experiment.recipe.epochs)

        if self.store is None:
            return self.experiment.train(seed=seed, without_forget=kind == "oracle", log=log())
        cache = ModelCache(self.store, warn=notices.warn)
        return cache.get(self.experiment, kind, seed, log)


def display_names(methods: Sequence[Method]) -> list[str]:
    """The methods' names, numbered where one stands more than once."""
    names = [m.name for m in methods]
    return [
        f"{n} {names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)
    ]
