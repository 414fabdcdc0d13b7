"""How much do the features tell of whether a sample is of the forgotten class?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from eigenforget.core.fields import Positive
from eigenforget.core.seeds import derive
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.audits.linear_probe import finite_features
from eigenforget.evaluation.audits.sides import TOLD_APART, balanced, missing_side
from eigenforget.evaluation.evidence import Evidence, Observation, Reads
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES
from eigenforget.evaluation.standardiser import standardiser

_NAME = "idi"
_FOLDS = 5
_LEAST = 0.02
"""Nats by which the original must know more than retrained models; with less, the ratio is noise.
On a thousand samples the estimate of a layer varies by about as much between folds."""


@configured
class IDI:
    """`idi`, the information difference index: what of the forgotten class the features still tell.

    Y says whether a training sample belongs to the forget set or to an equally large draw of the
    retain set. I(Z; Y) is what the features Z tell of Y, in nats, at the headline layer and at each
    further layer that is measured. idi = Σ (I − I_oracle) / Σ (I_original − I_oracle), the sums
    over the layers, I_oracle the mean over the retrained models. A retrained model is at 0 and the
    original at 1. Below 0 the features tell less than those of a retrained model, which is
    over-forgetting. The score has no bounds.

    I is estimated from below as log 2 − (log loss of a logistic regression on standardised
    features), cut at 0. Each sample is judged by a fit without its fold. This is InfoNCE whose
    negatives are the labels of a large batch, for a critic that is linear in Z, at its optimum.

    Cost: 5 logistic regressions for each layer of the model, the original and every oracle.

    Not applicable: no class is forgotten as a whole, no original or no oracle, fewer than 10
    samples of a side, a fit that did not converge, an original that tells hardly more than the
    retrained models.

    Raises:
        EigenforgetError: A feature is not finite.

    Source: arXiv 2405.17878, implemented from a summary and not checked against the paper.
    Deviations: its critic is the rest of the network with a projection, trained by SGD, at the
    later layers; here it is linear, its optimum unique, and the layers are those that were asked
    for.
    """

    name: ClassVar[str] = "idi"
    reads: ClassVar[Reads] = "model"
    opt_in: ClassVar[bool] = True
    most: Annotated[int, Field(ge=MIN_SAMPLES), "most samples of either side"] = 1000
    c: Annotated[Positive, "inverse strength of the L2 penalty on the summed loss"] = 1.0

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The index, or the reason why there is none."""
        found = self._index(evidence, seed)
        span = (-math.inf, math.inf)
        if isinstance(found, str):
            return (Score(_NAME, None, "1", "reference", span, reason=found, trace="above"),)
        return (Score(_NAME, found, "1", "reference", span, trace="above"),)

    def _index(self, evidence: Evidence, seed: int) -> float | str:
        """The index, or the reason why there is none."""
        if not evidence.forgotten_classes:
            return "no class is forgotten as a whole, so original and retrained models tell alike"
        if evidence.original is None or not evidence.oracles:
            return "needs the original and 1 retrained model"
        if reason := missing_side(evidence):
            return reason
        models = (evidence.parts, evidence.original, *evidence.oracles)
        try:
            mine, before, *after = (self._information(seen, seed) for seen in models)
        except ConvergenceWarning:
            return "a logistic regression on the features did not converge"
        target = float(np.mean(after))
        if before - target < _LEAST:
            return (
                f"the original's features tell {before:.3f} nats of the forgotten class, the "
                f"retrained models' {target:.3f}: no difference to measure in"
            )
        return (mine - target) / (before - target)

    def _information(self, seen: Observation, seed: int) -> float:
        """I(Z; Y) in nats, summed over the layers."""
        return sum(
            information(forget, retain=retain, c=self.c, seed=seed)
            for forget, retain in self._layers(seen, seed)
        )

    def _layers(self, seen: Observation, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Standardised features [n, D] of the drawn samples of both sides, layer by layer."""
        rng = np.random.default_rng(derive(seed, _NAME))
        drawn = balanced([len(seen[p].labels) for p in TOLD_APART], self.most, rng)
        for layer in ("", *seen["retain"].layers):
            both = [seen[p].layers[layer] if layer else seen[p].features for p in TOLD_APART]
            unit = standardiser(finite_features(both[1], "retain", "IDI"))
            forget, retain = (
                unit(finite_features(f[rows], p, "IDI"))
                for f, rows, p in zip(both, drawn, TOLD_APART, strict=True)
            )
            yield forget, retain


def information(forget: np.ndarray, *, retain: np.ndarray, c: float, seed: int) -> float:
    """A lower bound of I(Z; Y) in nats, in [0, log 2], from as many samples [n, D] of both sides.

    Args:
        forget: Features of the one side.
        retain: Features of the other side.
        c: Inverse strength of the penalty.
        seed: Which samples are a fold.

    Raises:
        ConvergenceWarning: A fit did not converge.
    """
    rows = np.concatenate([forget, retain])
    side = np.r_[np.ones(len(forget), dtype=np.int64), np.zeros(len(retain), dtype=np.int64)]
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=derive(seed, _NAME, "folds") % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        logs = cross_val_predict(
            LogisticRegression(C=c, max_iter=5000),
            rows,
            side,
            cv=folds,
            method="predict_log_proba",
        )
    loss = -float(logs[np.arange(len(rows)), side].mean())
    return min(max(math.log(2) - loss, 0.0), math.log(2))
