"""Are the answers on the forgotten samples those of a model that has learnt nothing?"""

from __future__ import annotations

import copy
import math
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from eigenforget.core.bands import Z95, student_t
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.fields import Count
from eigenforget.core.seeds import derive
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.data.sources import Source
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.accuracy import Interval, interval_around
from eigenforget.evaluation.metrics.divergence import LN2, jensen_shannon, softmaxes
from eigenforget.evaluation.metrics.panel import too_few
from eigenforget.models.checkpoint import named_tensors
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.engine import Engine

TRIED = 16
"""Samples on which the networks that are drawn for two models are held against each other."""


class Teachers(NamedTuple):
    """Networks that have learnt nothing, as far as they are needed for the next model.

    Attributes:
        state: Tensors of the first one, by name.
        tried: Its logits on the first TRIED samples, one call of the engine.
        logits: The logits [N, C] of each on all samples.
    """

    state: dict[str, Tensor]
    tried: Tensor
    logits: tuple[Tensor, ...]

    def same(self, state: dict[str, Tensor], tried: Tensor) -> bool:
        """Whether a first network of these tensors and logits is the same to the bit.

        All of them follow from the seed and from what is not drawn: the layers, and constants.
        """
        return (
            state.keys() == self.state.keys()
            and all(torch.equal(tensor, self.state[name]) for name, tensor in state.items())
            and torch.equal(tried, self.tried)
        )


class Zrf(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    interval: Interval


@configured
class ZRF:
    """`zrf` (zero retrain forgetting) = 1 − mean over the forget set of JS₂(p, p̃), in [0, 1].

    p is the model's softmax on a sample and p̃ that of an incompetent teacher: the same
    architecture with freshly drawn weights, in eval mode. The mean is taken over `teachers`
    such networks too, each from its own seed, since one network is one draw. 1 means that the model
    answers as a network that has learnt nothing. No value is right in itself. A retrained
    model is confident as well (of another class, or from what it learnt of similar samples), so its
    value is the target. Below it the answers are further from random, like those of a model that
    still knows the samples. Above it the model answers more at random than one that never saw them.
    ZRF is a metric of outputs: a change of the head alone moves it.

    The interval covers the draw of the forget samples and that of the teachers. It joins in
    quadrature the standard error of the samples' means over the teachers and, with two or more
    teachers, Student's t times the standard error of the teachers' means.

    Not applicable: fewer than 10 forget samples, no engine to run a model with, no classifier head,
    weights that cannot be drawn anew.

    Raises:
        EigenforgetError: A logit is not finite.

    Source: Chundawat et al. (arXiv 2205.08096). Deviations: base 2, which the paper leaves open,
    and several teachers. The authors' code (metrics.py) takes KL(m ‖ p) and KL(m ‖ p̃) with the
    mean m, in nats, and divides by the number of classes too. Its values lie that much nearer 1, so
    a printed one cannot be set beside this one.
    """

    name: ClassVar[str] = "zrf"
    reads: ClassVar[Reads] = "model"
    teachers: Annotated[Count, "randomly drawn incompetent teachers to average over"] = 3

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The score, or the reason why there is none."""
        found = self._value(evidence, seed)
        if isinstance(found, str):
            return (Score("zrf", None, "1", "reference", (0.0, 1.0), reason=found, trace="below"),)
        low, high = found.interval
        span = (0.0, 1.0)
        return (Score("zrf", found.value, "1", "reference", span, low, high, trace="below"),)

    def _value(self, evidence: Evidence, seed: int) -> Zrf | str:
        """The value and its interval, or the reason why there is none."""
        source = evidence.sources.get("forget")
        if few := too_few(forget=evidence.count("forget")):
            return few
        if evidence.engine is None or source is None:
            return "there is no engine and no data to run a randomly drawn model with"
        if evidence.layer is None and not any(
            isinstance(module, nn.Linear) for module in evidence.model.modules()
        ):
            return (
                f"{type(evidence.model).__name__} has no nn.Linear, so it cannot be run up to "
                "its classifier head"
            )
        mine = torch.from_numpy(evidence.parts["forget"].logits)
        try:
            others = self._logits(evidence, source, evidence.engine, seed)
        except Refused as refusal:
            return str(refusal)
        divergences = [
            jensen_shannon(*softmaxes("forget", mine=mine, other=other)) for other in others
        ]
        value = max(1 - float(np.mean([float(found.mean()) for found in divergences])) / LN2, 0.0)
        return Zrf(
            value, interval_around(value, half=half_width(torch.stack(divergences).numpy() / LN2))
        )

    def _logits(
        self, evidence: Evidence, source: Source, engine: Engine, seed: int
    ) -> tuple[Tensor, ...]:
        """The logits of each teacher: of models with the same layers they are computed once."""

        def teacher(index: int) -> nn.Module:
            # On the CPU, where the same seed draws the same weights whatever device the model is
            # on.
            drawn = copy.deepcopy(evidence.model).cpu()
            own = derive(seed, "zrf", index)
            reinitialise(dict(drawn.named_modules()), seed=own, method="zrf")
            return drawn

        first = teacher(0)
        state = {name: tensor.clone() for name, tensor in named_tensors(first)}
        few = source.subset(np.arange(min(TRIED, len(source))))
        tried = _logits(first, few, engine, evidence.layer)
        key = (self, seed)
        known = evidence.kept.get(key)
        if not (isinstance(known, Teachers) and known.same(state, tried)):
            teachers = (first, *map(teacher, range(1, self.teachers)))
            found = tuple(_logits(each, source, engine, evidence.layer) for each in teachers)
            known = evidence.kept[key] = Teachers(state, tried, found)
        return known.logits


def half_width(draws: np.ndarray) -> float:
    """Of the 95 % interval of the mean of draws [R, N]: over new samples, and over new draws."""
    count, n = draws.shape
    samples = Z95 * float(draws.mean(axis=0).std(ddof=1)) / math.sqrt(n)
    if count < 2:
        return samples
    spread = float(draws.mean(axis=1).std(ddof=1)) / math.sqrt(count)
    return math.hypot(samples, student_t(0.975, degrees=count - 1) * spread)


def _logits(model: nn.Module, source: Source, engine: Engine, layer: str | None) -> Tensor:
    """Logits [N, C] on the CPU, in order of positions as those of the model are."""
    rows, positions = [], []
    for batch, outputs in engine.forward(model, source, layer=layer):
        rows.append(outputs.logits.cpu())
        positions.append(batch.positions.cpu())
    logits = torch.cat(rows)[torch.cat(positions).argsort()]
    if not bool(logits.isfinite().all()):
        raise EigenforgetError(
            "part forget: the logits of a model with randomly drawn weights are not finite"
        )
    return logits
