"""Are the answers further from a retrained model's than those of another retrained model?"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from scipy.spatial.distance import cdist, pdist
from scipy.special import softmax

from eigenforget.core.fields import Count, Positive
from eigenforget.core.seeds import derive
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.attacks import finite_logits
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES, samples_of

_GAP, _P = "kernel_gap", "kernel_p"


@configured
class KernelTest:
    """`kernel_gap`, `kernel_p`: a relative kernel test on the answers for the forget set.

    D(P | Q) is the regularised χ² divergence of two samples of softmaxes: the largest value of 2
    (E_P h − E_Q h) − E_Q h² − ridge ‖h‖² over functions h. These belong to a Gaussian kernel
    exp(−d²/w), with w the median squared distance in Q. kernel_gap = D(model | oracle) − D(other
    oracle | oracle), the mean over pairs of oracles in a ring, on the forget set. It says how much
    further the model is from a retrained model than another one is. kernel_p is its one-sided
    p-value from `draws` seeded exchanges, in each of which the model and the other oracle swap
    their answers to a random half of the samples. It is small if the model and the retrained models
    differ, and at least 1 / (draws + 1).

    The p-value assumes that two trained models are exchangeable sample by sample. Retrained models
    also differ as models, so their p-values are not uniform. The band of the retrained models says
    what a value means, and the number is never a proof. kernel_gap has no bounds.

    Not applicable: fewer than 2 retrained models or 10 forget samples, retrained models that answer
    all samples alike.

    Raises:
        EigenforgetError: A logit is not finite.

    Source: the relative test of Ribero, Schrab, Gretton (arXiv 2601.19755), from its abstract and
    introduction. Deviations: the χ² divergence with one width and one ridge, where the paper
    aggregates over both and over divergences; exchanges in place of its bootstrap.
    """

    name: ClassVar[str] = "kernel_test"
    reads: ClassVar[Reads] = "logits"
    opt_in: ClassVar[bool] = True
    ridge: Annotated[Positive, "weight of the norm of h"] = 0.1
    draws: Annotated[Count, "exchanges behind the p-value"] = 999
    most: Annotated[int, Field(ge=MIN_SAMPLES), "most forget samples, a seeded draw"] = 500

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The two scores, or the reason why there are none."""
        found = self._contrasts(evidence, seed)
        if isinstance(found, str):
            return _score(_GAP, None, found), _score(_P, None, found)
        gap = float(found.sum())
        signs = np.random.default_rng(derive(seed, self.name, "exchanges")).choice(
            (-1.0, 1.0), size=(self.draws, len(found))
        )
        # An exchange gives a sum of the same terms: only what rounds apart may count as larger.
        larger = int((signs @ found >= gap - 1e-12 * np.abs(found).sum()).sum())
        return _score(_GAP, gap), _score(_P, (1 + larger) / (1 + self.draws))

    def _contrasts(self, evidence: Evidence, seed: int) -> np.ndarray | str:
        """What each sample adds to the gap [n], or the reason why there is none."""
        count = evidence.count("forget")
        if count < MIN_SAMPLES or len(evidence.oracles) < 2:
            return (
                f"needs {MIN_SAMPLES} {samples_of('forget')} and 2 retrained models, got {count} "
                f"and {len(evidence.oracles)}"
            )
        rows, rng = evidence.parts["forget"], np.random.default_rng(derive(seed, self.name))
        drawn = np.sort(rng.permutation(count)[: self.most])
        mine, *others = (
            softmax(finite_logits(logits[drawn], "forget"), axis=1)
            for logits in (rows.logits, *(o["forget"].logits for o in evidence.oracles))
        )
        if any(not pdist(other).any() for other in others):
            return "a retrained model answers all samples alike, so there is no width of a kernel"
        ring = [
            contrasts(mine, others[i - 1], others[i], ridge=self.ridge) for i in range(len(others))
        ]
        return np.asarray(np.mean(ring, axis=0))


def contrasts(
    mine: np.ndarray, other: np.ndarray, oracle: np.ndarray, *, ridge: float
) -> np.ndarray:
    """Terms [n] whose sum is D(mine | oracle) − D(other | oracle).

    Both divergences are squared norms of a difference of means in one space, so their difference is
    linear. It is twice the mean of h(mine) − h(other), with h the witness between the pooled
    samples and the oracle. An exchange of the answers to sample i turns the sign of term i.

    Args:
        mine: Softmaxes [n, C].
        other: Softmaxes [n, C] for the same samples.
        oracle: Softmaxes [n, C], not all alike.
        ridge: Weight of the norm.
    """
    n = len(mine)
    distances = pdist(oracle, "sqeuclidean")
    width = float(np.median(distances[distances > 0]))
    points = np.concatenate([mine, other, oracle])
    kernel = np.exp(-cdist(points, points, "sqeuclidean") / width)
    weights = np.repeat((0.5 / n, 0.5 / n, -1.0 / n), n)
    towards = kernel @ weights
    inner = kernel[2 * n :, 2 * n :] + n * ridge * np.eye(n)
    witness = (towards - kernel[:, 2 * n :] @ np.linalg.solve(inner, towards[2 * n :])) / ridge
    return np.asarray(2 * (witness[:n] - witness[n : 2 * n]) / n)


def _score(name: str, value: float | None, reason: str = "") -> Score:
    span = (0.0, 1.0) if name == _P else (-math.inf, math.inf)
    return Score(name, value, "1", "reference", span, reason=reason, trace="both")
