"""Can a fresh linear classifier still find the forgotten class in the features?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field

from eigenforget.core.bands import student_t
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
from eigenforget.evaluation.metrics.panel import no_samples, too_few_of_class
from eigenforget.evaluation.multinomial import Settings, joint_optimum
from eigenforget.evaluation.standardiser import Standardiser, standardiser

Penalty = Annotated[Positive, "inverse strength of the L2 penalty on the summed loss"]
MaxIter = Annotated[Count, "most L-BFGS iterations; beyond them there is no score"]
Tolerance = Annotated[Positive, "largest gradient entry of the mean loss at convergence"]
_BLOCK, _KNOWN = 5, 0.04
"""Draws of few labels at a time, and the half-width over draws at which they are enough."""
_SIDES: tuple[Better, Better] = ("reference", "higher")
"""The forget set is compared with retrained models; on the retain set a probe's accuracy is
utility.
"""


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


class Linear(NamedTuple):
    """A linear classifier.

    Attributes:
        weights: [D, C].
        bias: [C].
        classes: [C].
    """

    weights: np.ndarray
    bias: np.ndarray
    classes: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The class [N] of each row of features [N, D]."""
        return np.asarray(self.classes[(features @ self.weights + self.bias).argmax(axis=1)])


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier of standardised features."""

    unit: Standardiser
    classifier: Linear

    def right(self, rows: PartOutputs, part: Part) -> np.ndarray:
        """Which samples are classified right, bool [N]."""
        found = self.classifier.predict(
            self.unit(finite_features(rows.features, part, "the linear probe"))
        )
        return np.asarray(found == rows.labels)


@configured
class LinearProbe:
    """`lp_forget`, `lp_retain`: accuracy of a new linear classifier on the frozen features.

    Multinomial logistic regression, fitted to its float64 optimum in the same way for every model,
    on features in the unit of the retain set (see `standardiser`): a scale, a shift or a rotation
    changes nothing. If classes are forgotten, it is fitted on all training samples, including the
    forget set, with true labels. Its accuracy on test_forget, where all classes compete, is
    lp_forget. That on test_retain is lp_retain. A retrained model is far from chance (0.41 to 0.98
    in the literature), so its value is the target. Above it knowledge is left; below it too much
    was forgotten. lp_retain says how useful the features still are; higher is better. In other
    requests it is fitted on the retain set only. lp_forget is then its accuracy on the forget set,
    which is above that of the retrained models if the original memorised samples. On held-out
    samples (lp_retain) it is a null control there: no difference is the right answer, as for DA.
    Wilson's interval holds for this probe's held-out samples, not for a new training run.

    Not applicable: a part is missing, the probe sees one class, or it did not converge (a
    half-fitted probe is not this recipe); for lp_forget a forgotten class with fewer than 10
    training samples.

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
        rows = stratified_subset(samples.labels, self.max_train, seed=seed)
        found = fit_alike(samples, [rows], Settings(self.c, self.max_iter, self.tolerance))
        if isinstance(found, str):
            return none(self.scores, found)
        (probe,) = found
        return both_sides(
            evidence,
            self.scores,
            samples.targets,
            lambda rows, part: probe.right(rows, part)[None],
            few=few_forgotten(evidence),
        )


@configured
class FewLabelProbe:
    """`lp_few_forget`, `lp_few_retain`: the linear probe from a small share of the labels.

    Each seeded draw takes max(2, share · n) of the n training samples of each class, rounded, and
    is fitted and scored as LinearProbe is, on the same parts. The scores are mean accuracies over
    the draws, in [0, 1]; intervals: see `averaged`. Five draws are made at a time, until the means
    are known to ± 0.04 (95 %) or there are `draws` of them. With two labels per class, the accuracy
    of one draw has a standard deviation of 0.11 on digits. 30 draws leave 0.02. 2 % of the labels
    recover over 82 % of the class in head-only methods, and about 41 % in retrained models (arXiv
    2405.17878).

    Not applicable: what LinearProbe says, a class with fewer than 2 training samples, draws whose
    probes did not converge.

    Raises:
        EigenforgetError: A feature is not finite.

    Deviations: see LinearProbe; that paper fine-tunes its probe with SGD on one draw.
    """

    name: ClassVar[str] = "few_label_probe"
    reads: ClassVar[Reads] = "features"
    scores: ClassVar[tuple[str, str]] = ("lp_few_forget", "lp_few_retain")
    share: Annotated[UpTo1, "share of each class's training labels that is used"] = 0.02
    draws: Annotated[TwoOrMore, "most seeded draws to average over; their spread needs 2"] = 30
    c: Penalty = 1.0
    max_iter: MaxIter = 5000
    tolerance: Tolerance = 1e-5

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The two mean accuracies, or the reason why there are none."""
        samples = probe_samples(evidence)
        if isinstance(samples, str):
            return none(self.scores, samples)
        right = self._right(evidence, samples, seed)
        if isinstance(right, str):
            return none(self.scores, right)
        return both_sides(
            evidence,
            self.scores,
            samples.targets,
            lambda _, part: right[part],
            few=few_forgotten(evidence),
        )

    def _right(
        self, evidence: Evidence, samples: ProbeSamples, seed: int
    ) -> dict[Part, np.ndarray] | str:
        """Which samples of each part are right, bool [draws, N], or why there is no answer."""
        classes, counts = np.unique(samples.labels, return_counts=True)
        if counts.min() < 2:
            label = classes[counts.argmin()]
            return f"needs 2 training samples of each class, got 1 of class {label}"
        targets = {part: evidence.parts[part] for part in samples.targets if evidence.has(part)}
        found: dict[Part, np.ndarray] = {}
        for first in range(0, self.draws, _BLOCK):
            last = min(first + _BLOCK, self.draws)
            rows = [
                few_of_each_class(samples.labels, self.share, generator(seed, self.name, draw))
                for draw in range(first, last)
            ]
            settings = Settings(self.c, self.max_iter, self.tolerance)
            probes = fit_alike(samples, rows, settings)
            if isinstance(probes, str):
                return f"{probes} (draws {first + 1} to {last} of {self.draws})"
            for part, own in targets.items():
                right = np.stack([probe.right(own, part) for probe in probes])
                found[part] = np.concatenate([found[part], right]) if first else right
            if last >= _BLOCK and all(_spread(right) <= _KNOWN for right in found.values()):
                break
        return found


def probe_samples(evidence: Evidence) -> ProbeSamples | str:
    """What a probe of this request is fitted and scored on, or why there is nothing."""
    by_class = bool(evidence.forgotten_classes)
    sources: tuple[Part, ...] = ("forget", "retain") if by_class else ("retain",)
    missing = [part for part in sources if not evidence.has(part)]
    if missing:
        return f"the probe has too little to fit: {'; '.join(map(no_samples, missing))}"
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


def fit_alike(
    samples: ProbeSamples, draws: Sequence[np.ndarray], settings: Settings
) -> list[Probe] | str:
    """A probe for each of the draws, or the reason why there is none.

    Each draw names rows of the samples, as many of each class. All are fitted as one problem, whose
    parts do not touch: the optimum of each is its own, and the steps cost less together. A draw of
    n samples is fitted in the n dimensions that they span; the penalty leaves no weight elsewhere.

    Args:
        samples: The samples.
        draws: Rows [n] of each draw.
        settings: How to fit.
    """
    if len(np.unique(samples.labels)) < 2:
        return one_class(samples.labels)
    classes = np.unique(samples.labels)
    inputs = np.stack([samples.unit(samples.features[rows]) for rows in draws])
    bases = None
    if inputs.shape[1] < inputs.shape[2]:
        bases, spans = np.linalg.qr(inputs.transpose(0, 2, 1))
        inputs = np.ascontiguousarray(spans.transpose(0, 2, 1))
    members = np.stack([samples.labels[rows][:, None] == classes for rows in draws])
    weights = joint_optimum(inputs, members.astype(np.float64), settings)
    if weights is None:
        return not_converged(settings)
    slopes = weights[:, :-1] if bases is None else bases @ weights[:, :-1]
    return [
        Probe(samples.unit, Linear(slope, bias, classes))
        for slope, bias in zip(slopes, weights[:, -1], strict=True)
    ]


def one_class(labels: np.ndarray) -> str:
    """Why there is no probe of samples of one class."""
    return f"the probe's training samples have 1 class, {labels[0]}; it needs 2"


def not_converged(settings: Settings) -> str:
    """Why a half-fitted probe is none."""
    return (
        f"the probe did not converge in {settings.max_iter} iterations to tolerance "
        f"{settings.tolerance}"
    )


def stratified_subset(labels: np.ndarray, limit: int, *, seed: int) -> np.ndarray:
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
    *,
    few: str = "",
) -> tuple[Score, ...]:
    """The score of each side; not applicable where the part has no sample.

    Args:
        evidence: The model and its outputs.
        names: Names of the two scores.
        parts: The part of each.
        right: Gives [draws, N] bool for the rows of a part: which samples are classified right.
        few: Why the first score is not applicable; "" where it is.
    """
    reasons = [
        why if evidence.has(part) else no_samples(part)
        for part, why in zip(parts, (few, ""), strict=True)
    ]
    return tuple(
        missing_share(name, reason=reason, better=better)
        if reason
        else averaged(name, right(evidence.parts[part], part), better)
        for name, part, better, reason in zip(names, parts, _SIDES, reasons, strict=True)
    )


def few_forgotten(evidence: Evidence) -> str:
    """Why forgotten classes have too few training samples to be found; "" where they have enough.

    A probe cannot learn a class from one sample, and would say that no model knows it.
    """
    labels = evidence.parts["forget"].labels if evidence.has("forget") else np.zeros(0, dtype=int)
    counts = {c: int((labels == c).sum()) for c in evidence.forgotten_classes}
    return too_few_of_class(counts, "training")


def averaged(name: str, right: np.ndarray, better: Better) -> Score:
    """Mean of right [draws, N] as a Score with a 95 % interval for new draws and new samples.

    Two sources of error are added in quadrature on each side of the mean (Zou & Donner 2008). One
    is Wilson's interval of the mean over N samples, which is no narrower than the spread of one
    sample's average over the draws. The other is Student's t times the standard error of the draws'
    accuracies. It is cut to [0, 1]. One draw has Wilson's interval alone.
    """
    draws, n = right.shape
    if draws == 1:
        return share(name, correct=int(right.sum()), seen=n, better=better)
    value = float(right.mean())
    samples = wilson_interval(successes=float(right.sum() / draws), trials=n)
    spread = _spread(right)
    low = max(value - math.hypot(value - samples.low, spread), 0.0)
    high = min(value + math.hypot(samples.high - value, spread), 1.0)
    return share_score(name, value, Interval(low, high), better)


def _spread(right: np.ndarray) -> float:
    """Half of the 95 % interval of the mean over new draws, from right [draws, N]."""
    draws = len(right)
    error = right.mean(axis=1).std(ddof=1) / math.sqrt(draws)
    return float(student_t(0.975, degrees=draws - 1) * error)


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
        missing_share(name, reason=reason, better=better)
        for name, better in zip(names, _SIDES, strict=True)
    )
