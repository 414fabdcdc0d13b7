"""How far the margins of unlearned models lie from those of retrained models, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch

from eigenforget.core.fields import Between01, Count, Positive, TwoOrMore
from eigenforget.core.seeds import generator
from eigenforget.core.spec import configured
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.evidence import Evidence, Observation, Reads
from eigenforget.evaluation.metrics.attacks import margins
from eigenforget.evaluation.metrics.panel import too_few

_SIDES: dict[str, Part] = {
    "klom_forget": "forget",
    "klom_retain": "retain",
    "klom_test": "test_retain",
}


@configured
class KLoM:
    """`klom_forget`, `klom_retain`, `klom_test`: KL divergence of margins of two sets of models.

    Sample by sample, then the mean over samples. φ = f_y − log Σ_{k≠y} exp f_k, clipped to [−limit,
    limit], in `bins` equal bins. A histogram's share is (count / models + ε) / (1 + bins · ε) and
    the distance is KL(P ‖ Q) = Σ P log(P / Q), P from the oracles and Q from the model and its
    peers. On forget, on a seeded draw of at most max_retain samples of retain, and on test_retain;
    in nats, from 0 to log((1 + ε) / ε) / (1 + bins · ε) = 11.51, where each set has a bin of its
    own. Lower is closer, but retrained models are not at 0. The paper has 100 models on each side;
    with a few models the number is only relative. An oracle beside the other oracles shows how
    large it gets by chance. There is no interval: the draw that matters is that of the models, and
    there is one of it.

    Not applicable: fewer than 2 models on a side, fewer than 10 samples of the part.

    Raises:
        EigenforgetError: A logit is not finite.

    Source: Georgiev, Rinberg et al. (arXiv 2410.23232). Deviations: ε on all bins of both sides
    keeps it a divergence (>= 0). Published code floors Q alone, and spans the bins over each
    sample's own margins, in which a few models hardly ever share a bin.
    """

    name: ClassVar[str] = "klom"
    reads: ClassVar[Reads] = "logits"
    ensemble: ClassVar[bool] = True
    least_oracles: ClassVar[int] = 2
    bins: Annotated[TwoOrMore, "equal bins of the margin; the paper's number"] = 20
    limit: Annotated[Positive, "margins are clipped to ±limit; the paper's"] = 100.0
    epsilon: Annotated[Between01, "share added to every bin, so that no logarithm is infinite"] = (
        1e-5
    )
    max_retain: Annotated[Count, "most retained samples; the mean needs no more"] = 2000

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The three scores, or the reason why there is none."""
        counts = (1 + len(evidence.peers), len(evidence.oracles))
        if counts[0] < 2 or counts[1] < self.least_oracles:
            reason = (
                "needs 2 models made alike (the model and its peers) and 2 oracles, got "
                f"{counts[0]} and {counts[1]}"
            )
            return tuple(self._score(name, reason) for name in _SIDES)
        return tuple(
            self._score(
                name,
                too_few(**{part: evidence.count(part)}) or self._mean(evidence, part, seed),
            )
            for name, part in _SIDES.items()
        )

    @property
    def largest(self) -> float:
        """The distance of two sets of models that share no bin."""
        return math.log1p(1 / self.epsilon) / (1 + self.bins * self.epsilon)

    def distances(self, *, oracles: np.ndarray, models: np.ndarray) -> np.ndarray:
        """[n] in nats: KL of the oracles' histograms to the models', from margins [models, n]."""
        p, q = self._histograms(oracles), self._histograms(models)
        return np.asarray((p * np.log(p / q)).sum(axis=0))

    def _histograms(self, phi: np.ndarray) -> np.ndarray:
        """[bins, n] smoothed shares.

        A bin holds its lower edge, and the last one its upper edge too.
        """
        edges = np.linspace(-self.limit, self.limit, self.bins + 1)
        which = np.clip(np.searchsorted(edges, phi, side="right") - 1, 0, self.bins - 1)
        shares = np.stack([(which == b).mean(axis=0) for b in range(self.bins)])
        return (shares + self.epsilon) / (1 + self.bins * self.epsilon)

    def _mean(self, evidence: Evidence, part: Part, seed: int) -> float:
        rows = np.arange(len(evidence.parts[part].labels))
        if part == "retain" and len(rows) > self.max_retain:
            drawn = torch.randperm(len(rows), generator=generator(seed, "klom")).numpy()
            rows = np.sort(drawn[: self.max_retain])
        oracles, models = (
            _margins(side, part, rows)
            for side in (evidence.oracles, (evidence.parts, *evidence.peers))
        )
        # A sum of rounded terms may fall below 0, or past the bound, by units in the last place.
        return min(
            max(float(self.distances(oracles=oracles, models=models).mean()), 0.0), self.largest
        )

    def _score(self, name: str, value: float | str) -> Score:
        reason = value if isinstance(value, str) else ""
        number = None if isinstance(value, str) else value
        return Score(
            name, number, "nats", "reference", (0.0, self.largest), reason=reason, trace="both"
        )


def _margins(models: Sequence[Observation], part: Part, rows: np.ndarray) -> np.ndarray:
    return np.stack(
        [margins(seen[part].logits[rows], seen[part].labels[rows], part) for seen in models]
    )
