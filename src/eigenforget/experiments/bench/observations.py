"""What a worker of a bench has seen: the outputs of originals and oracles, each taken once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

from eigenforget.evaluation.evidence import Observation, PartOutputs
from eigenforget.experiments.bench.jobs import StudySpec
from eigenforget.experiments.experiment import Experiment
from eigenforget.models.checkpoint import model_digest
from eigenforget.record import value_digest

MOST_OBSERVED = 2 * 1024**3
"""Sixteen models of a width of 512 on the 60,000 samples of CIFAR-10 have 2 GiB of outputs."""

_NOT_OF_OUTPUTS = ("seed", "oracles", "skip", "metrics", "audits", "map_points")
"""Fields of a study on which no output of a model depends, beside its weights."""


class ObservationCache:
    """Observations by digests of the data and the weights; the least recently used go first.

    Studies of several training seeds share their oracles, and jobs of one study come back to it.

    Args:
        most_bytes: What the kept outputs take together at most. A board holds those of its own
            models in any case.
    """

    def __init__(self, most_bytes: int = MOST_OBSERVED) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, Observation] = OrderedDict()

    def observer(
        self,
        study: StudySpec,
        experiment: Experiment,
        observe: Callable[[nn.Module], Observation],
    ) -> Callable[[nn.Module], Observation]:
        """`observe`, which looks at no model twice on the same data and layers.

        Args:
            study: What is measured.
            experiment: Its data, loaded and split.
            observe: What gives the outputs of a model.
        """
        measured: dict[str, Any] = {
            **{k: v for k, v in study.identity.items() if k not in _NOT_OF_OUTPUTS},
            "inputs": experiment.inputs(),
        }

        def once(model: nn.Module) -> Observation:
            key = value_digest({**measured, "weights": model_digest(model)})
            if key not in self._kept:
                self._kept[key] = observe(model)
            found = self._kept[key]
            self._kept.move_to_end(key)
            self._forget_oldest()
            return found

        return once

    def _forget_oldest(self) -> None:
        sizes = {key: memory_of(seen) for key, seen in self._kept.items()}
        total = sum(sizes.values())
        while total > self.most_bytes:
            key, _ = self._kept.popitem(last=False)
            total -= sizes[key]


def memory_of(seen: Observation) -> int:
    """Bytes of the outputs on all parts."""
    return sum(_bytes(rows) for rows in seen.values())


def _bytes(rows: PartOutputs) -> int:
    return sum(column.nbytes for column in (*rows[:4], *rows.layers.values()))
