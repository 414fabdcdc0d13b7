"""Judges metrics before methods, on models of which it is known what a good metric says of them.

These are originals, oracles that are held out of the band of the others, and controls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from eigenforget import record
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.evaluation.board import Board, Measurement, Panel
from eigenforget.evaluation.records import own_measurement
from eigenforget.evaluation.scoring import check_skip, chosen_audits, chosen_metrics
from eigenforget.experiments.cheats import Cheat, CheatParts
from eigenforget.experiments.experiment import Experiment, outcome_without_model
from eigenforget.experiments.study import Study
from eigenforget.methods import Collapse, HeadDistill, HeadMask
from eigenforget.methods.base import Method
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import RunRecord
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Watch, unwatched

_CONTROLS: tuple[Method, ...] = (HeadMask(), HeadDistill(), Collapse())


class Trial(NamedTuple):
    """A control made from the original of one training seed.

    Attributes:
        method: The control.
        number: Of the training seed.
        result: The model, or why there is none.
    """

    method: Method
    number: int
    result: ModelAndCost | Refused | Diverged


@dataclass(frozen=True)
class MetricAudit:
    """The models of one request, on several training seeds.

    The first oracle of a training seed starts from the same initial weights as its original, the
    others from their own. Some scores compare directions in feature space, which mean nothing
    across initial weights. All oracles form one band; each is held out of it once.

    Attributes:
        experiment: Data, model, recipe and request.
        seeds: Training seeds; each has an original.
        oracles_per_seed: Oracles for each training seed.
        controls: Methods that only pretend to forget.
        store: As in `Study`.
        skip: Metrics and audits that are left out.
        metrics: Further metrics, as in `Panel`.
        audits: Further audits, or those that run only where they are named, as in `Panel`.
        layers: Further layers to measure at.
        cheats: Models made from an original and its oracle, to audit the verdict and the check of
            the file. The judgements of metrics leave them out.
    """

    experiment: Experiment
    seeds: tuple[int, ...] = (0, 1, 2)
    oracles_per_seed: int = 3
    controls: tuple[Method, ...] = _CONTROLS
    store: Path | None = None
    skip: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    audits: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    cheats: tuple[Cheat, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.seeds) * self.oracles_per_seed
        if count < 3:
            raise EigenforgetError(
                "an audit of metrics holds each oracle out of the band of the others, which takes "
                f"3; {len(self.seeds)} training seeds × {self.oracles_per_seed} oracles are {count}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise EigenforgetError(
                f"training seeds must differ, got {', '.join(map(str, self.seeds))}"
            )
        # Before hours of training, not after them.
        own = (*chosen_metrics(self.metrics), *chosen_audits(self.audits))
        check_skip(self.skip, [item.name for item in own])

    def oracle_seeds(self) -> list[tuple[int, int]]:
        """(seed of the oracle, number of the training seed that it goes with)."""
        spare = iter(range(max(10, max(self.seeds) + 1), 10**9))
        return [
            (s if i == 0 else next(spare), n)
            for n, s in enumerate(self.seeds)
            for i in range(self.oracles_per_seed)
        ]

    def records(self, watch: Watch = unwatched) -> Iterator[RunRecord]:
        """Sealed evaluate records of each original, oracle and control, one chain.

        What a control refuses is on record too.
        """
        return record.chained(self._records(watch))

    def _records(self, watch: Watch) -> Iterator[RunRecord]:
        originals = [self._study(seed).original(watch) for seed in self.seeds]
        oracles = [
            (seed, number, self._study(seed).oracle(seed, watch))
            for seed, number in self.oracle_seeds()
        ]
        trials = [t for method in self.controls for t in self._trials(method, originals, watch)]
        board = Board(
            self._panel,
            [o.model for o in originals],
            [o.model for _, _, o in oracles],
            pairs=[n for _, n, _ in oracles],
            peers=len(self.seeds) - 1,
        )
        for index, (seed, number, oracle) in enumerate(oracles):
            job = {"seed": seed, "training_seed": self.seeds[number]}
            yield self._record(f"oracle {seed}", oracle, board.measure_oracle(index), job, watch)
        for number, (seed, original) in enumerate(zip(self.seeds, originals, strict=True)):
            job = {"seed": seed, "training_seed": seed}
            measured = board.measure_original(number)
            yield self._record(f"original seed {seed}", original, measured, job, watch)
        yield from self._control_records(trials, board, watch)
        paired = {number: oracle for _, number, oracle in reversed(oracles)}
        for cheat in self.cheats:
            for number, original in enumerate(originals):
                models = original.model, paired[number].model
                yield self._cheat_record(cheat, number, models, board, watch)

    def _control_records(
        self, trials: Sequence[Trial], board: Board, watch: Watch
    ) -> Iterator[RunRecord]:
        observed = {
            id(t): board.panel.observe(t.result.model)
            for t in trials
            if isinstance(t.result, ModelAndCost)
        }
        for trial in trials:
            seed, role = self.seeds[trial.number], trial.method.role
            name = f"{trial.method.name} seed {seed}"
            job = {
                "seed": seed,
                "training_seed": seed,
                "method": self.experiment.method_in_words(trial.method),
            }
            if not isinstance(trial.result, ModelAndCost):
                yield self.experiment.record(
                    "evaluate", name, outcome_without_model(trial.result), role=role, job=job
                )
                continue
            same = [t for t in trials if t.method is trial.method and t is not trial]
            measured = board.measure(
                trial.result.model,
                role,
                peers=[observed[id(t)] for t in same if id(t) in observed],
                number=trial.number,
                seen=observed[id(trial)],
            )
            yield self._record(name, trial.result, measured, job, watch)

    def _cheat_record(
        self,
        cheat: Cheat,
        number: int,
        models: tuple[nn.Module, nn.Module],
        board: Board,
        watch: Watch,
    ) -> RunRecord:
        """The record of a cheat made from the original and the oracle of a training seed."""
        seed, own = self.seeds[number], self.experiment
        name = f"{cheat.name} seed {seed}"
        job: dict[str, Any] = {"seed": seed, "training_seed": seed, "cheat": cheat.name}
        gone = own.split.forgotten_classes
        try:
            model = cheat.make(CheatParts(*models, own.forget, own.retain, gone, own.engine, seed))
        except Refused as refusal:
            return own.record(
                "evaluate", name, outcome_without_model(refusal), role="control", job=job
            )
        model.eval()
        measured = board.measure(model, "control", number=number)
        job |= unchanged_weights(models[0], after=model)
        return self._record(name, ModelAndCost(model, 0.0, {}), measured, job, watch)

    def _record(
        self,
        name: str,
        made: ModelAndCost,
        measured: Measurement,
        job: dict[str, Any],
        watch: Watch,
    ) -> RunRecord:
        watch(f"measured: {name} ({measured.seconds:.0f} s)", 1)({})
        settings, files = own_measurement(self._panel)
        return self.experiment.evaluation_record(
            name, made, measured, job={**settings, **job}, inputs=files
        )

    def _trials(
        self, method: Method, originals: Sequence[ModelAndCost], watch: Watch
    ) -> list[Trial]:
        found = []
        for number, (seed, original) in enumerate(zip(self.seeds, originals, strict=True)):
            log = watch(f"unlearn: {method.name}, seed {seed}", method.log_rows)
            result = self.experiment.try_unlearn(original.model, method, seed=seed, log=log)
            found.append(Trial(method, number, result))
        return found

    @cached_property
    def _panel(self) -> Panel:
        return self.experiment.panel(
            seed=0, skip=self.skip, metrics=self.metrics, audits=self.audits, layers=self.layers
        )

    def _study(self, seed: int) -> Study:
        return Study(self.experiment, (), seed=seed, store=self.store)
