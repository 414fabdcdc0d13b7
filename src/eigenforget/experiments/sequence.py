"""Requests that arrive one after the other, each honoured on the model that the one before left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from eigenforget import record
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.seeds import derive
from eigenforget.evaluation.board import Board
from eigenforget.evaluation.records import with_verdicts
from eigenforget.experiments.experiment import Experiment, described, outcome_without_model
from eigenforget.experiments.study import Study, check_oracle_seeds
from eigenforget.methods.base import Method
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import RunRecord
from eigenforget.requests import Sequential, Step, Union, steps
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Watch, unwatched


class StepRecords(NamedTuple):
    """What one step left.

    Attributes:
        number: Of the step, from 1.
        records: Sealed records of the original, of oracles of all that is forgotten by then, and of
            the unlearned models.
    """

    number: int
    records: list[RunRecord]


@dataclass(frozen=True)
class SequentialStudy:
    """A method, applied once for each request of a sequence, and at the end to all of them at once.

    After each step the model stands beside the original and beside oracles that never saw anything
    forgotten so far. The series forget_groups of a record has the accuracy on the samples of each
    request: one that rises again was resurrected.

    Attributes:
        experiment: Data, model and recipe; its own request is not used.
        sequence: The requests.
        method: The unlearning method.
        seed: Of the original, the method and the measurement.
        oracle_seeds: Of the oracles; by default the three next seeds.
        store: As in `Study`.
        skip: Metrics and audits that are left out.
    """

    experiment: Experiment
    sequence: Sequential
    method: Method
    seed: int = 0
    oracle_seeds: tuple[int, ...] = ()
    store: Path | None = None
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_oracle_seeds(self.oracle_seeds)

    @cached_property
    def steps(self) -> list[Step]:
        """The steps.

        Raises:
            EigenforgetError: As `requests.steps`, or a step would forget nothing new.
        """
        found = steps(self.sequence, self.experiment.data.train_index)
        for number, step in enumerate(found, start=1):
            if not len(step.new):
                raise EigenforgetError(
                    f"step {number} ({step.request.name}) forgets nothing that earlier steps left; "
                    "take it out"
                )
        return found

    def run(self, watch: Watch = unwatched, *, finished: int = 0) -> Iterator[StepRecords]:
        """The records of each step in order.

        A step that the method refuses or that diverges is on record and ends the sequence.

        Args:
            watch: Shows progress.
            finished: Steps whose records are there already. They are unlearned once more, for the
                steps that follow, but not measured, and left out.
        """
        last = len(self.steps)  # wrong requests must fail before anything is trained
        if finished >= last:
            return
        original = self._study(1).original(watch)
        model = original.model
        for number in range(1, last + 1):
            log = watch(f"unlearn: step {number}, {self.method.name}", self.method.log_rows)
            result = self.at(number).try_unlearn(
                model,
                self.method,
                seed=derive(self.seed, "sequence", number) % 2**31,
                log=log,
                only=self.steps[number - 1].new,
            )
            results = {f"step {number}": result}
            if number == last:
                log = watch(f"unlearn: at once, {self.method.name}", self.method.log_rows)
                results["at once"] = self.at(last).try_unlearn(
                    original.model, self.method, seed=self.seed, log=log
                )
            if number > finished:
                yield StepRecords(number, self._records(number, original, results, watch))
            if not isinstance(result, ModelAndCost):
                return
            model = result.model

    def at(self, number: int) -> Experiment:
        """The experiment whose request is all that is forgotten up to this step, from 1."""
        request = Union(requests=tuple(self.sequence.requests[:number]))
        return replace(self.experiment, request=request, loaded=self.experiment.data)

    def groups(self, number: int) -> Mapping[str, np.ndarray]:
        """Rows of this step's forget set by the request that took them: "1 by_class(label=3)"."""
        gone = self.at(number).split.forget
        found = enumerate(self.steps[:number], start=1)
        return {
            f"{i} {described(step.request)['spec']}": np.flatnonzero(np.isin(gone, step.new))
            for i, step in found
        }

    def _records(
        self,
        number: int,
        original: ModelAndCost,
        results: Mapping[str, ModelAndCost | Refused | Diverged],
        watch: Watch,
    ) -> list[RunRecord]:
        study, here = self._study(number), self.at(number)
        seeds = self.oracle_seeds or tuple(self.seed + i for i in (1, 2, 3))
        oracles = [study.oracle(seed, watch) for seed in seeds]
        done = watch(f"measure: step {number}", 1)
        panel = here.panel(seed=self.seed, skip=self.skip, forget_groups=self.groups(number))
        board = Board(panel, [original.model], [o.model for o in oracles])
        job = {"seed": self.seed, "step": number, "sequence": described(self.sequence)}
        unsealed = [here.evaluation_record("original", original, board.measure_original(), job=job)]
        for i, (seed, oracle) in enumerate(zip(seeds, oracles, strict=True)):
            own = {**job, "seed": seed}
            unsealed.append(
                here.evaluation_record(f"oracle {i + 1}", oracle, board.measure_oracle(i), job=own)
            )
        job["method"] = described(self.method)
        for name, result in results.items():
            unsealed.append(self._record(here, name, result, board, original.model, job))
        done({})
        return list(record.chained(with_verdicts(unsealed)))

    def _record(
        self,
        here: Experiment,
        name: str,
        result: ModelAndCost | Refused | Diverged,
        board: Board,
        original: nn.Module,
        job: Mapping[str, Any],
    ) -> RunRecord:
        role = self.method.role
        if not isinstance(result, ModelAndCost):
            return here.record("evaluate", name, outcome_without_model(result), role=role, job=job)
        own = {**job, **unchanged_weights(original, after=result.model)}
        return here.evaluation_record(name, result, board.measure(result.model, role), job=own)

    def _study(self, number: int) -> Study:
        return Study(self.at(number), (), seed=self.seed, store=self.store)
