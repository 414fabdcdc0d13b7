"""Can a fresh linear classifier still find the forgotten class in the features?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from eigenforget.audits.evidence import Evidence, PartOutputs
from eigenforget.metrics.accuracy import not_applicable, share
from eigenforget.seeds import generator
from eigenforget.spec import configured
from eigenforget.types import EigenforgetError, Part, Score

NAMES = ("lp_forget", "lp_retain")


class Standardiser(NamedTuple):
    """mean [D] and inverse scale [D] of the probe's training features; a constant feature has inverse scale 0."""

    mean: np.ndarray
    inverse: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) * self.inverse


@dataclass(frozen=True)
class _Probe:
    standardise: Standardiser
    classifier: LogisticRegression

    def score(self, name: str, rows: PartOutputs, part: Part) -> Score:
        right = self.classifier.predict(self.standardise(_finite(rows.features, part))) == rows.labels
        return share(name, correct=int(right.sum()), seen=len(right), better="reference")


@configured
class LinearProbe:
    """Multinomial logistic regression (L-BFGS, float64) on standardised features, the same recipe for every model.

    Class forgetting: fitted on all training samples, the forgotten ones included, with true labels; lp_forget is its
    accuracy on test_forget, where all classes compete, lp_retain on test_retain. A retrained model is far from chance
    (0.41 to 0.98 in the literature), so its value is the target: above it, knowledge is left; below it, the model is
    over-forgotten.
    Where no class is forgotten as a whole: fitted on the retained training samples only; lp_forget is its accuracy on
    the forgotten training samples. There DA and LP are expected-null controls: no difference is the right answer.
    Intervals are Wilson's and hold for this probe's held-out samples, not for a new training run.
    Not applicable: a part is missing, the probe sees one class, or it did not converge (a half-fitted probe is not this
    recipe). Errors: non-finite features.
    Deviation: published probes use SGD, whose result depends on its schedule; this optimum is unique.
    """

    name: ClassVar[str] = "linear_probe"
    reads: ClassVar[Literal["logits", "features", "model"]] = "features"
    c: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="inverse strength of the L2 penalty on the summed loss"
    )
    max_iter: int = Field(default=5000, ge=1, description="most L-BFGS iterations; beyond them there is no score")
    max_train: int = Field(default=20_000, ge=100, description="most training samples, a stratified seeded draw")
    tolerance: float = Field(
        default=1e-5, gt=0, allow_inf_nan=False, description="largest gradient entry of the mean loss at convergence"
    )

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        by_class = bool(evidence.forgotten_classes)
        sources: tuple[Part, ...] = ("forget", "retain") if by_class else ("retain",)
        missing = [part for part in sources if _absent(evidence, part)]
        if missing:
            return _none(f"the probe is fitted on {' and '.join(sources)}; no sample of {' and '.join(missing)}")
        probe = self._fit(evidence, sources, seed)
        if isinstance(probe, str):
            return _none(probe)
        targets: tuple[Part, Part] = ("test_forget" if by_class else "forget", "test_retain")
        return tuple(
            not_applicable(name, f"no sample of part {part}")
            if _absent(evidence, part)
            else probe.score(name, evidence.parts[part], part)
            for name, part in zip(NAMES, targets, strict=True)
        )

    def _fit(self, evidence: Evidence, sources: Sequence[Part], seed: int) -> _Probe | str:
        """The fitted probe, or the reason why there is none."""
        labels = np.concatenate([evidence.parts[part].labels for part in sources])
        rows = stratified_subset(labels, self.max_train, seed)
        features = np.concatenate([_finite(evidence.parts[part].features, part) for part in sources])[rows]
        labels = labels[rows]
        if len(np.unique(labels)) < 2:
            return f"the probe's training samples have 1 class, {labels[0]}; it needs 2"
        standardise = standardiser(features)
        classifier = LogisticRegression(C=self.c, max_iter=self.max_iter, tol=self.tolerance)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                classifier.fit(standardise(features), labels)
            except ConvergenceWarning:
                return f"the probe did not converge in {self.max_iter} iterations to tolerance {self.tolerance}"
        return _Probe(standardise, classifier)


def standardiser(features: np.ndarray) -> Standardiser:
    """Centre and scale [N, D] to mean 0 and variance 1; constant columns become zero whatever is put in later."""
    features = features.astype(np.float64)
    std = features.std(axis=0)
    # max > min and not std > 0 alone: the std of a constant such as 0.1 is rounding noise, which would be scaled up to
    # 1.
    varies = (features.max(axis=0) > features.min(axis=0)) & (std > 0)
    return Standardiser(mean=features.mean(axis=0), inverse=np.divide(1.0, std, out=np.zeros_like(std), where=varies))


def stratified_subset(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Sorted positions of at most `limit` of the N labels, seeded, with the classes in proportion.

    Each class is shuffled and its r-th of n samples (from 0) gets the key r/n; the smallest keys are taken. So shares
    are kept up to rounding, which favours small classes: with at most `limit` classes, each keeps at least one sample.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    shuffled = torch.randperm(len(labels), generator=generator(seed, "linear_probe")).numpy()
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        keys[own] = np.arange(len(own)) / len(own)
    return np.sort(shuffled[np.argsort(keys[shuffled], kind="stable")[:limit]])


def _absent(evidence: Evidence, part: Part) -> bool:
    return part not in evidence.parts or len(evidence.parts[part].labels) == 0


def _finite(features: np.ndarray, part: Part) -> np.ndarray:
    if not np.isfinite(features).all():
        raise EigenforgetError(f"part {part}: the model's features are not finite; the linear probe needs numbers")
    return features


def _none(reason: str) -> tuple[Score, ...]:
    return tuple(not_applicable(name, reason) for name in NAMES)
