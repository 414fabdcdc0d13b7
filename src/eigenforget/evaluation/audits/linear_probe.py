"""Can a fresh linear classifier still find the forgotten class in the features?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from scipy.stats import t as student_t
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Count, Positive, TwoOrMore, UpTo1
from eigenforget.core.seeds import generator
from eigenforget.core.spec import configured
from eigenforget.core.types import Better, Part, Score
from eigenforget.evaluation.evidence import Evidence, PartOutputs, Reads
from eigenforget.evaluation.metrics.accuracy import (
    Interval,
    missing_share,
    share,
    share_score,
    wilson_interval,
)
from eigenforget.evaluation.standardiser import Standardiser, standardiser

Penalty = Annotated[Positive, "inverse strength of the L2 penalty on the summed loss"]
MaxIter = Annotated[Count, "most L-BFGS iterations; beyond them there is no score"]
Tolerance = Annotated[Positive, "largest gradient entry of the mean loss at convergence"]
_SIDES: tuple[Better, Better] = ("reference", "higher")
"""The forgotten side is compared with retrained models; on the retained side a probe's accuracy is
utility.
"""


class Settings(NamedTuple):
    """How a probe is fitted.

    Attributes:
        c: Inverse strength of the penalty.
        max_iter: Most iterations.
        tolerance: Largest gradient entry at convergence.
    """

    c: float
    max_iter: int
    tolerance: float


class ProbeSamples(NamedTuple):
    """What a probe is fitted and scored on.

    Attributes:
        features: [N, D].
        labels: [N].
        targets: The part whose accuracy is the score of each side.
        unit: What standardises the features of this model.
    """

    features: np.ndarray
    labels: np.ndarray
    targets: tuple[Part, Part]
    unit: Standardiser


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier of standardised features."""

    unit: Standardiser
    classifier: LogisticRegression

    def right(self, rows: PartOutputs, part: Part) -> np.ndarray:
        """Which samples are classified right, bool [N]."""
        found = self.classifier.predict(
            self.unit(finite_features(rows.features, part, "the linear probe"))
        )
        return np.asarray(found == rows.labels)


@configured
class LinearProbe:
    """`lp_forget`, `lp_retain`: accuracy of a new linear classifier on the frozen features.

    Multinomial logistic regression (L-BFGS, float64), the same recipe for every model, on features
    in the unit of the retain set (see `standardiser`): a scale, a shift or a rotation changes
    nothing. Where classes are forgotten it is fitted on all training samples, the forget set
    included, with true labels; lp_forget is its accuracy on test_forget, where all classes compete,
    lp_retain that on test_retain. A retrained model is far from chance (0.41 to 0.98 in the
    literature), so its value is the target: above it knowledge is left, below it the model is
    over-forgotten. lp_retain says how useful the features still are; higher is better. In other
    requests it is fitted on the retain set only; lp_forget is its accuracy on the forget set, which
    is above the retrained models' where the original learnt samples by heart. On held-out samples
    (lp_retain) it is a null control there: no difference is the right answer, as for DA. Wilson's
    interval holds for this probe's held-out samples, not for a new training run.

    Not applicable: a part is missing, the probe sees one class, or it did not converge (a
    half-fitted probe is not this recipe).

    Raises:
        EigenforgetError: A feature is not finite.

    Deviation: published probes use SGD, whose result depends on its schedule; this optimum is
    unique.
    """

    name: ClassVar[str] = "linear_probe"
    reads: ClassVar[Reads] = "features"
    scores: ClassVar[tuple[str, str]] = ("lp_forget", "lp_retain")
    c: Penalty = 1.0
    max_iter: MaxIter = 5000
    max_train: Annotated[int, Field(ge=100), "most training samples, a stratified seeded draw"] = (
        20_000
    )
    tolerance: Tolerance = 1e-5

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The two accuracies, or the reason why there are none."""
        samples = probe_samples(evidence)
        if isinstance(samples, str):
            return none(self.scores, samples)
        rows = stratified_subset(samples.labels, self.max_train, seed)
        probe = fit_probe(
            samples.features[rows],
            samples.labels[rows],
            Settings(self.c, self.max_iter, self.tolerance),
            samples.unit,
        )
        if isinstance(probe, str):
            return none(self.scores, probe)
        return both_sides(
            evidence, self.scores, samples.targets, lambda rows, part: probe.right(rows, part)[None]
        )


@configured
class FewLabelProbe:
    """`lp_few_forget`, `lp_few_retain`: the linear probe from a small share of the labels.

    Each seeded draw takes max(2, share · n) of the n training samples of each class, rounded, and
    is fitted and scored as LinearProbe is, on the same parts. The scores are mean accuracies over
    the draws, in [0, 1]; intervals: see `averaged`. 2 % of the labels recover over 82 % of the
    class in head-only methods, and about 41 % in retrained models (arXiv 2405.17878).

    Not applicable: what LinearProbe says, a class with fewer than 2 training samples, a draw whose
    probe did not converge.

    Raises:
        EigenforgetError: A feature is not finite.

    Deviations: see LinearProbe; that paper fine-tunes its probe with SGD on one draw.
    """

    name: ClassVar[str] = "few_label_probe"
    reads: ClassVar[Reads] = "features"
    scores: ClassVar[tuple[str, str]] = ("lp_few_forget", "lp_few_retain")
    share: Annotated[UpTo1, "share of each class's training labels that is used"] = 0.02
    draws: Annotated[TwoOrMore, "seeded draws to average over; their spread needs 2"] = 5
    c: Penalty = 1.0
    max_iter: MaxIter = 5000
    tolerance: Tolerance = 1e-5

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The two mean accuracies, or the reason why there are none."""
        samples = probe_samples(evidence)
        if isinstance(samples, str):
            return none(self.scores, samples)
        probes = self._probes(samples, seed)
        if isinstance(probes, str):
            return none(self.scores, probes)
        return both_sides(
            evidence,
            self.scores,
            samples.targets,
            lambda rows, part: np.stack([probe.right(rows, part) for probe in probes]),
        )

    def _probes(self, samples: ProbeSamples, seed: int) -> list[Probe] | str:
        """One fitted probe for each draw, or the reason why there is none."""
        classes, counts = np.unique(samples.labels, return_counts=True)
        if counts.min() < 2:
            return (
                f"class {classes[counts.argmin()]} has 1 training sample; the probe needs 2 "
                "of each class"
            )
        probes = []
        for draw in range(self.draws):
            rows = few_of_each_class(samples.labels, self.share, generator(seed, self.name, draw))
            settings = Settings(self.c, self.max_iter, self.tolerance)
            probe = fit_probe(samples.features[rows], samples.labels[rows], settings, samples.unit)
            if isinstance(probe, str):
                return f"{probe} (draw {draw + 1} of {self.draws})"
            probes.append(probe)
        return probes


def probe_samples(evidence: Evidence) -> ProbeSamples | str:
    """What a probe of this request is fitted and scored on, or why there is nothing."""
    by_class = bool(evidence.forgotten_classes)
    sources: tuple[Part, ...] = ("forget", "retain") if by_class else ("retain",)
    missing = [part for part in sources if not evidence.has(part)]
    if missing:
        return (
            f"the probe is fitted on {' and '.join(sources)}; no sample of {' and '.join(missing)}"
        )
    features = np.concatenate(
        [
            finite_features(evidence.parts[part].features, part, "the linear probe")
            for part in sources
        ]
    )
    labels = np.concatenate([evidence.parts[part].labels for part in sources])
    return ProbeSamples(
        features,
        labels,
        ("test_forget" if by_class else "forget", "test_retain"),
        standardiser(evidence.parts["retain"].features),
    )


def fit_probe(
    features: np.ndarray, labels: np.ndarray, settings: Settings, unit: Standardiser
) -> Probe | str:
    """The probe fitted on features [N, D] and labels [N], or the reason why there is none."""
    if len(np.unique(labels)) < 2:
        return f"the probe's training samples have 1 class, {labels[0]}; it needs 2"
    classifier = LogisticRegression(
        C=settings.c, max_iter=settings.max_iter, tol=settings.tolerance
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            classifier.fit(unit(features), labels)
        except ConvergenceWarning:
            return (
                f"the probe did not converge in {settings.max_iter} iterations to tolerance "
                f"{settings.tolerance}"
            )
    return Probe(unit, classifier)


def stratified_subset(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Sorted positions of at most `limit` of the N labels, seeded, with the classes in proportion.

    Each class is shuffled and its r-th of n samples (from 0) gets the key r/n; the smallest keys
    are taken. So shares are kept up to rounding, which favours small classes: with at most `limit`
    classes, each keeps at least one sample. For one seed a smaller subset is part of every larger
    one.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    shuffled = torch.randperm(len(labels), generator=generator(seed, "linear_probe")).numpy()
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        keys[own] = np.arange(len(own)) / len(own)
    return np.sort(shuffled[np.argsort(keys[shuffled], kind="stable")[:limit]])


def few_of_each_class(labels: np.ndarray, fraction: float, rng: torch.Generator) -> np.ndarray:
    """Sorted positions of max(2, fraction · n), rounded, of the n samples of each class.

    Each sample is equally likely.
    """
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        chosen.append(
            own[
                torch.randperm(len(own), generator=rng).numpy()[
                    : max(2, round(fraction * len(own)))
                ]
            ]
        )
    return np.sort(np.concatenate(chosen))


def both_sides(
    evidence: Evidence,
    names: Sequence[str],
    parts: Sequence[Part],
    right: Callable[[PartOutputs, Part], np.ndarray],
) -> tuple[Score, ...]:
    """The score of each side; not applicable where the part has no sample.

    Args:
        evidence: The model and its outputs.
        names: Names of the two scores.
        parts: The part of each.
        right: Gives [draws, N] bool for the rows of a part: which samples are classified right.
    """
    return tuple(
        averaged(name, right(evidence.parts[part], part), better)
        if evidence.has(part)
        else missing_share(name, f"no sample of part {part}", better)
        for name, part, better in zip(names, parts, _SIDES, strict=True)
    )


def averaged(name: str, right: np.ndarray, better: Better) -> Score:
    """Mean of right [draws, N] as a Score with a 95 % interval for new draws and new samples.

    Two sources of error are added in quadrature on each side of the mean (Zou & Donner 2008):
    Wilson's interval of the mean over N samples, which is no narrower than the spread of one
    sample's average over the draws, and Student's t times the standard error of the draws'
    accuracies. It is cut to [0, 1]. One draw has Wilson's interval alone.
    """
    draws, n = right.shape
    if draws == 1:
        return share(name, correct=int(right.sum()), seen=n, better=better)
    value = float(right.mean())
    samples = wilson_interval(successes=float(right.sum() / draws), trials=n)
    spread = float(
        student_t.ppf(0.975, draws - 1) * right.mean(axis=1).std(ddof=1) / math.sqrt(draws)
    )
    low = max(value - math.hypot(value - samples.low, spread), 0.0)
    high = min(value + math.hypot(samples.high - value, spread), 1.0)
    return share_score(name, value, Interval(low, high), better)


def finite_features(features: np.ndarray, part: Part, reader: str) -> np.ndarray:
    """The features, or an error that names the part and who reads them."""
    if not np.isfinite(features).all():
        raise EigenforgetError(
            f"part {part}: the model's features are not finite; {reader} needs numbers"
        )
    return features


def none(names: Sequence[str], reason: str) -> tuple[Score, ...]:
    """The scores of both sides as not applicable."""
    return tuple(
        missing_share(name, reason, better) for name, better in zip(names, _SIDES, strict=True)
    )
