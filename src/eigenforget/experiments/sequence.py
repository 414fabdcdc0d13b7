"""Deletion requests that arrive one after the other, each honoured on the model that the one before
left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from eigenforget import record
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.seeds import derive
from eigenforget.evaluation.board import Board
from eigenforget.experiments.experiment import Experiment, described, problem
from eigenforget.experiments.study import Study
from eigenforget.methods.base import Method
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import RunRecord
from eigenforget.requests import Sequential, Step, Union, steps
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Watch, unwatched


class StepRecords(NamedTuple):
    """What one step left: sealed records of the original, the oracles of all that is forgotten by
    then, and the models.
    """

    number: int
    records: list[RunRecord]


@dataclass(frozen=True)
class SequentialStudy:
    """Applies `method` once for each request of the sequence, and once to all of them at once at
    the end.

    After each step the model stands beside the original and beside oracles that never saw anything
    forgotten so far. The series forget_groups of a record has the accuracy on the samples of each
    request: one that rises again was resurrected. experiment: data, model and recipe; its own
    request is not used. store: as in Study.
    """

    experiment: Experiment
    sequence: Sequential
    method: Method
    seed: int = 0
    oracle_seeds: tuple[int, ...] = ()
    store: Path | None = None
    skip: tuple[str, ...] = field(default=())

    @cached_property
    def steps(self) -> list[Step]:
        """The steps. Errors: those of eigenforget.requests.steps, and a step that would forget
        nothing new.
        """
        found = steps(self.sequence, self.experiment.data.train_index)
        for number, step in enumerate(found, start=1):
            if not len(step.new):
                raise EigenforgetError(
                    f"step {number} ({step.request.name}) forgets nothing that earlier steps left; take it out"
                )
        return found

    def run(self, watch: Watch = unwatched) -> Iterator[StepRecords]:
        """The records of each step in order. A step that the method refuses or that diverges is on
        record and ends the sequence.
        """
        last = len(self.steps)  # wrong requests must fail before anything is trained
        original = self._study(1).original(watch)
        model = original.model
        for number in range(1, last + 1):
            made = self._unlearned(model, number, watch)
            models: dict[str, ModelAndCost | Refused | Diverged] = {f"step {number}": made}
            if number == last:
                models["at once"] = self._at_once(original.model, watch)
            yield StepRecords(number, self._records(number, original, models, watch))
            if not isinstance(made, ModelAndCost):
                return
            model = made.model

    def at(self, number: int) -> Experiment:
        """The experiment whose request is everything forgotten up to this step, counted from 1."""
        found = replace(
            self.experiment, request=Union(requests=tuple(self.sequence.requests[:number]))
        )
        vars(found)["data"] = (
            self.experiment.data
        )  # a new object would read the data again, several times at each step
        return found

    def groups(self, number: int) -> Mapping[str, np.ndarray]:
        """Rows of this step's forget samples by the request that took them: "1 by_class(label=3)"."""
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
        models: Mapping[str, ModelAndCost | Refused | Diverged],
        watch: Watch,
    ) -> list[RunRecord]:
        study, here = self._study(number), self.at(number)
        seeds = self.oracle_seeds or tuple(self.seed + i for i in (1, 2, 3))
        oracles = [study.oracle(seed, watch) for seed in seeds]
        done = watch(f"measure: step {number}", 1)
        board = Board(
            here.panel(seed=self.seed, skip=self.skip, forget_groups=self.groups(number)),
            [original.model],
            [o.model for o in oracles],
        )
        job = {"seed": self.seed, "step": number, "sequence": described(self.sequence)}
        unsealed = [here.evaluation_record("original", original, board.measure_original(), job=job)]
        for i, (seed, made) in enumerate(zip(seeds, oracles, strict=True)):
            unsealed.append(
                here.evaluation_record(
                    f"oracle {i + 1}", made, board.measure_oracle(i), job={**job, "seed": seed}
                )
            )
        for name, found in models.items():
            own = {**job, "method": described(self.method)}
            if isinstance(found, ModelAndCost):
                own |= unchanged_weights(original.model, found.model)
                unsealed.append(
                    here.evaluation_record(
                        name, found, board.measure(found.model, self.method.role), job=own
                    )
                )
            else:
                unsealed.append(
                    here.record("evaluate", name, problem(found), role=self.method.role, job=own)
                )
        done({})
        return list(record.chained(unsealed))

    def _unlearned(
        self, model: nn.Module, number: int, watch: Watch
    ) -> ModelAndCost | Refused | Diverged:
        log = watch(f"unlearn: step {number}, {self.method.name}", self.method.log_rows)
        seed = derive(self.seed, "sequence", number) % 2**31
        try:
            return self.at(number).unlearn(
                model, self.method, seed=seed, log=log, only=self.steps[number - 1].new
            )
        except (Refused, Diverged) as error:
            return error

    def _at_once(self, original: nn.Module, watch: Watch) -> ModelAndCost | Refused | Diverged:
        log = watch(f"unlearn: at once, {self.method.name}", self.method.log_rows)
        try:
            return self.at(len(self.steps)).unlearn(original, self.method, seed=self.seed, log=log)
        except (Refused, Diverged) as error:
            return error

    def _study(self, number: int) -> Study:
        return Study(self.at(number), (), seed=self.seed, store=self.store)
