"""Judge the metrics before any method: original, held-out oracles and cheats, of which it is known
what a good metric says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from eigenforget import record
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.evaluation.board import Board, Measurement
from eigenforget.evaluation.scoring import check_skip
from eigenforget.experiments.experiment import Experiment, described, problem
from eigenforget.experiments.study import Study
from eigenforget.methods import Collapse, HeadDistill, HeadMask
from eigenforget.methods.base import Method
from eigenforget.record import RunRecord
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Watch, unwatched

CHEATS: tuple[Method, ...] = (HeadMask(), HeadDistill(), Collapse())


class Trial(NamedTuple):
    """A control made from the original of one training seed, or why it could not be."""

    method: Method
    number: int
    made: ModelAndCost | Refused | Diverged


@dataclass(frozen=True)
class MetricAudit:
    """Runs one request. seeds: training seeds. Each has an original and `oracles_per_seed` oracles.

    The first oracle of a training seed starts from the same initial weights as its original, the
    others from their own: some scores compare directions in feature space, which mean nothing
    across initial weights. All oracles form one band; each is held out of it once.
    """

    experiment: Experiment
    seeds: tuple[int, ...] = (0, 1, 2)
    oracles_per_seed: int = 3
    cheats: tuple[Method, ...] = CHEATS
    store: Path | None = None
    skip: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.seeds) * self.oracles_per_seed < 3:
            raise EigenforgetError(
                f"an audit of metrics holds each oracle out of the band of the others, which takes 3; "
                f"{len(self.seeds)} training seeds × {self.oracles_per_seed} oracles are {len(self.seeds) * self.oracles_per_seed}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise EigenforgetError(
                f"training seeds must differ, got {', '.join(map(str, self.seeds))}"
            )
        check_skip(self.skip)  # before hours of training, not after them

    def oracle_seeds(self) -> list[tuple[int, int]]:
        """(seed of the oracle, number of the training seed that it goes with)."""
        spare = iter(range(max(10, max(self.seeds) + 1), 10**9))
        return [
            (s if i == 0 else next(spare), n)
            for n, s in enumerate(self.seeds)
            for i in range(self.oracles_per_seed)
        ]

    def records(self, watch: Watch = unwatched) -> Iterator[RunRecord]:
        """A sealed evaluate record of each original, oracle and control, chained in order; what
        refused is on record too.
        """
        return record.chained(self._records(watch))

    def _records(self, watch: Watch) -> Iterator[RunRecord]:
        originals = [self._study(seed).original(watch) for seed in self.seeds]
        oracles = [
            (seed, number, self._study(seed).oracle(seed, watch))
            for seed, number in self.oracle_seeds()
        ]
        trials = [
            trial for method in self.cheats for trial in self._trials(method, originals, watch)
        ]
        panel = self.experiment.panel(seed=0, skip=self.skip, layers=self.layers)
        board = Board(
            panel,
            [o.model for o in originals],
            [o.model for _, _, o in oracles],
            pairs=[n for _, n, _ in oracles],
            peers=len(self.seeds) - 1,
        )
        for index, (seed, number, made) in enumerate(oracles):
            beside = {"seed": seed, "training_seed": self.seeds[number]}
            yield self._record(f"oracle {seed}", made, board.measure_oracle(index), beside, watch)
        for number, (seed, made) in enumerate(zip(self.seeds, originals, strict=True)):
            measured = board.measure_original(number)
            yield self._record(
                f"original seed {seed}",
                made,
                measured,
                {"seed": seed, "training_seed": seed},
                watch,
            )
        seen = {
            id(t): board.panel.observe(t.made.model)
            for t in trials
            if isinstance(t.made, ModelAndCost)
        }
        for trial in trials:
            seed, role, name = (
                self.seeds[trial.number],
                trial.method.role,
                f"{trial.method.name} seed {self.seeds[trial.number]}",
            )
            job: dict[str, Any] = {
                "seed": seed,
                "training_seed": seed,
                "method": described(trial.method),
            }
            if not isinstance(trial.made, ModelAndCost):
                yield self.experiment.record(
                    "evaluate", name, problem(trial.made), role=role, job=job
                )
                continue
            same = [t for t in trials if t.method is trial.method and t is not trial]
            peers = [seen[id(t)] for t in same if id(t) in seen]
            found = board.measure(
                trial.made.model, role, peers=peers, number=trial.number, seen=seen[id(trial)]
            )
            yield self._record(name, trial.made, found, job, watch)

    def _record(
        self,
        name: str,
        made: ModelAndCost,
        measured: Measurement,
        job: dict[str, Any],
        watch: Watch,
    ) -> RunRecord:
        watch(f"measured: {name} ({measured.seconds:.0f} s)", 1)({})
        return self.experiment.evaluation_record(name, made, measured, job=job)

    def _trials(
        self, method: Method, originals: Sequence[ModelAndCost], watch: Watch
    ) -> list[Trial]:
        found = []
        for number, (seed, original) in enumerate(zip(self.seeds, originals, strict=True)):
            log = watch(f"unlearn: {method.name}, seed {seed}", method.log_rows)
            try:
                made: ModelAndCost | Refused | Diverged = self.experiment.unlearn(
                    original.model, method, seed=seed, log=log
                )
            except (Refused, Diverged) as error:
                made = error
            found.append(Trial(method, number, made))
        return found

    def _study(self, seed: int) -> Study:
        return Study(self.experiment, (), seed=seed, store=self.store)
