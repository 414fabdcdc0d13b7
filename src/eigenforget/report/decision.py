"""The decision whether a model forgot and kept what a retrained model forgets and keeps.

It rests on few scores that are fixed for each kind of request. A model that really was retrained is
told from one at most once in twenty times for the whole decision (benchmarks/verdict_study.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from eigenforget.core.bands import SHARE_OF_SPAN, Z95, student_t

RequestKind = Literal["class", "samples"]
YesNo = Literal["yes", "no", "cannot tell"]
Position = Literal["like oracles", "residual", "over-forgotten", "lost", "like the original"]
"""Where a score stands. "like the original" is off the oracles on the side where more is gone, but
no farther than the original, which has lost nothing, beyond the limit."""

FORGET_SCORES: Mapping[RequestKind, tuple[str, ...]] = {
    "class": (
        "test_forget_accuracy",
        "mia_auc",
        "lp_forget",
        "ncm_forget",
        "prototype_forget",
        "da",
        "relearn_all_auc",
    ),
    "samples": ("forget_accuracy", "mia_auc", "lp_forget", "ruler_m4", "relearn_all_auc"),
}
"""What decides whether a model forgot, for requests of whole classes and for all others."""

FEW_SCORES = "too few scores were measured, or none of features"
"""Why it cannot be said whether a model forgot where most of FORGET_SCORES have no value."""

NONE_TELLS = "no score tells the original from retrained models"
NO_FEATURES_TELL = (
    "no score of features tells the original from retrained models, and outputs can be changed "
    "without forgetting"
)
UNMEASURED = "what tells the original from retrained models could not be measured for this model"

KEEP_SCORES = ("test_retain_accuracy", "lp_retain")
"""What decides whether it kept what it should, beside too low scores of FORGET_SCORES."""

FEATURE_SCORES = ("lp_forget", "ncm_forget", "prototype_forget", "da", "ruler_m4")
"""Those of features: outputs alone can be changed without forgetting."""

_KNOWLEDGE = ("test_forget_accuracy", "forget_accuracy", "lp_forget", "ncm_forget")
"""Scores of the forget set that damage does not raise. It may raise the others: where losses on
what should be kept rise, forgotten samples look familiar beside them."""

_ALIGNMENT, _RETAINED = "da", "retain_accuracy"
_LOWER_IS_TRACE = (_ALIGNMENT,)
"""Scores in which a trace of the forget set shows below the retrained models."""

FORGET_LEVEL = 0.01
"""Chance to say of a retrained model that it still remembers, over all scores together."""

KEEP_LEVEL = 0.02
"""Chance to say of a retrained model that it is damaged, over all scores together."""

PRIOR_DEGREES = 4.0
"""Degrees of freedom that the pooled ratio of spread to sampling error is worth. Estimated from the
oracles of the study (benchmarks/verdict_study.py), where the ratio differs between scores."""

ALIGNMENT_SPREAD = 0.3
"""Prior standard deviation of log(1 − DA) between retrained models, worth PRIOR_DEGREES. Retrained
models lie near 1, where DA itself is skewed, and its interval over samples does not say how much
they differ (their variance was up to 168 times its own). On this scale they do by 0.36 to 0.56 in
the study and by 0.01 to 0.36 in published records; a scaled F distribution fitted to all has 0.22
with 3.7 degrees of freedom."""

PRIOR_BOUNDS = (0.5, 4.0)
"""Bounds of the pooled ratio. Two or three oracles that agree by chance do not make it smaller."""

LEAST_PRIORS: Mapping[str, float] = {"ncm_forget": 1.0, "relearn_all_auc": 2.0}
"""Least prior ratio of scores that differ more between retrained models than samples and draws
explain: by 1.2 to 1.4 and by up to 3.5 times the sampling variance in the study, by 0.1 to 0.7
in all others."""

LEAST_RATIO = 0.25
"""Least ratio of one score, for the same reason."""

MOST_BEHIND = 0.15
"""Accuracy on the retained training data by which a retrained model may lie behind the original. In
160 studies on record it did so by 0.017 at most, and by 0.10 in one. Farther behind, it was trained
otherwise, or not to its end, and is no yardstick."""

BEARABLE_LOSS = 0.07
"""A model has kept what it should only where a loss of this share of the range can be ruled out. At
0.05 a quarter of the study's retrained models could not be told where their accuracy is 0.63 ± 0.02
on 1,000 images."""


class Estimate(NamedTuple):
    """A score of one model: its value, and its 95 % interval over samples and draws."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def variance(self) -> float:
        """Sampling variance that the interval stands for; 0 without an interval."""
        if self.low is None or self.high is None:
            return 0.0
        return ((self.high - self.low) / (2 * Z95)) ** 2


class DecisionScore(NamedTuple):
    """A score of the decision.

    Attributes:
        name: The score.
        value: Of the model.
        oracles: Mean of the retrained models.
        original: Mean of the originals; None where there is none.
        error: Standard error of value − oracles, if the model were one more retrained model; for
            DA, of log(1 − DA).
        degrees: Degrees of freedom of that error.
        gap: value − oracles in standard errors, positive on the side of a trace of the forget set
            (for what should be kept: positive is a loss).
        limit: The gap from which on it counts, corrected for the number of scores.
        position: What follows.
        separates: Whether the original would count as residual (as lost), so that the score tells.
        way: Share of the way from the original (0) to the oracles (1); None where it does not
            separate. DA counts as log(1 − DA).
    """

    name: str
    value: float
    oracles: float
    original: float | None
    error: float
    degrees: float
    gap: float
    limit: float
    position: Position
    separates: bool
    way: float | None


class Answer(NamedTuple):
    """An answer to a question, the scores that it rests on, and why it cannot be given."""

    answer: YesNo
    scores: tuple[str, ...] = ()
    reason: str = ""


class Decision(NamedTuple):
    """What the scores say of one model.

    Attributes:
        forgot: Whether it forgot what a retrained model does not know.
        kept: Whether it kept what a retrained model knows.
        scores: The scores that decide, those to be forgotten first.
        missing: Names of the decision scores that were not measured.
        pooled: Pooled ratio of the oracles' variance to the sampling variance of a score.
        unfit: Why the retrained models are no yardstick; "" where they are one.
    """

    forgot: Answer
    kept: Answer
    scores: tuple[DecisionScore, ...]
    missing: tuple[str, ...]
    pooled: float
    unfit: str = ""


class ComparisonScores(NamedTuple):
    """Scores by name of the models that a model is compared with.

    Attributes:
        kind: Whether whole classes are forgotten.
        oracles: Models that were retrained, without the model itself.
        originals: The original; those of several training seeds where they are known.
        spans: Range of each score; a gap below SHARE_OF_SPAN of it never counts.
    """

    kind: RequestKind
    oracles: Sequence[Mapping[str, Estimate]]
    originals: Sequence[Mapping[str, Estimate]]
    spans: Mapping[str, tuple[float | None, float | None]]

    def width(self, name: str) -> float:
        """Width of the score's range; 0 where it is open."""
        low, high = self.spans.get(name, (None, None))
        return 0.0 if low is None or high is None else high - low


def decide(
    model: Mapping[str, Estimate], beside: ComparisonScores, *, trained_on: Collection[str] = ()
) -> Decision:
    """Whether a model is like a retrained one, by scores that are fixed for the kind of request.

    For each score, the gap to the mean of n oracles is divided by the standard error that it would
    have if the model were one more oracle: √(r̃ (e² + e₀² / n)). Here e² and e₀² are the sampling
    variances of the model and of the oracles, from their intervals; e² is at least e₀². r̃ is the
    ratio of the variance between oracles to e₀². It is moderated (Smyth 2004, limma): (d₀ r₀ + (n −
    1) r) / (d₀ + n − 1). r₀ is pooled over the decision scores, oracles and originals, and is at
    least that of LEAST_PRIORS. The quotient has d₀ + n − 1 degrees of freedom. A score without an
    interval has the oracles' own variance and n − 1 degrees of freedom. DA is judged as log(1 −
    DA), with ALIGNMENT_SPREAD in place of an interval and r₀ = 1. Limits are Student's quantiles at
    FORGET_LEVEL and KEEP_LEVEL over the number of scores (Bonferroni).

    Did it forget? "no" if a score is residual; if what should be kept is lost, only scores that
    damage does not raise count. "yes" if no score is residual, a score of features separates the
    original from the oracles, and the model is nearer the oracles on every score that does. "cannot
    tell" otherwise. Did it keep? "no" if a score of KEEP_SCORES is too low, or one of FORGET_SCORES
    other than DA is beyond oracles and originals. "yes" if a loss of BEARABLE_LOSS can be ruled
    out. "cannot tell" otherwise. Neither can be told where an oracle is behind the originals by
    more than MOST_BEHIND on the retained training data.

    Args:
        model: Scores of the model.
        beside: Scores of the models that it is compared with.
        trained_on: Scores that the method trains on, which are no evidence for it.
    """
    forget = _forget_scores(beside.kind, model)
    names = (*forget, *KEEP_SCORES)
    pooled = _pooled_ratio(beside, names)
    found = {n: s for n in names if (s := _score(n, model, beside, pooled, len(forget)))}
    to_forget = [found[n] for n in forget if n in found]
    to_keep = [found[n] for n in KEEP_SCORES if n in found]
    count = max(sum(name in scores for scores in beside.oracles) for name in names)
    missing = tuple(name for name in names if name not in found)
    unfit = _unfit(beside)
    if unfit:
        none = Answer("cannot tell", reason=unfit)
        return Decision(none, none, tuple(found.values()), missing, pooled, unfit)
    forgot = _forgot(to_forget, to_keep, count, len(forget), bool(beside.originals), trained_on)
    if forgot.reason in (NONE_TELLS, NO_FEATURES_TELL):
        unseen = tuple(n for n in missing if n in forget and _tells(n, beside, pooled, len(forget)))
        if unseen:
            forgot = Answer("cannot tell", unseen, UNMEASURED)
    kept = _kept(to_keep, to_forget, count, beside)
    return Decision(forgot, kept, tuple(found.values()), missing, pooled)


def _unfit(beside: ComparisonScores) -> str:
    """Why the oracles are no yardstick; "" where they are one."""
    known, own = (
        [scores[_RETAINED].value for scores in group if _RETAINED in scores]
        for group in (beside.oracles, beside.originals)
    )
    goal = _mean(own) if own else max(known, default=0.0)
    behind = [value for value in known if goal - value > MOST_BEHIND]
    if not behind:
        return ""
    whose = "of the original" if own else "of another"
    return (
        f"{len(behind)} of {len(known)} retrained models do not know their training data, with an "
        f"accuracy of {min(behind):.3f} on it beside {goal:.3f} {whose}"
    )


def _tells(name: str, beside: ComparisonScores, pooled: float, forget: int) -> bool:
    """Whether a score tells the originals from the oracles, whatever the model has."""
    found = [s for m in beside.originals if (s := _score(name, m, beside, pooled, forget))]
    return any(s.separates for s in found)


def _forget_scores(kind: RequestKind, model: Mapping[str, Estimate]) -> tuple[str, ...]:
    """Those of the kind; without held-out samples of the class the training samples decide."""
    names = FORGET_SCORES[kind]
    if "test_forget_accuracy" in names and "test_forget_accuracy" not in model:
        return ("forget_accuracy", *names[1:])
    return names


def _pooled_ratio(beside: ComparisonScores, names: Iterable[str]) -> float:
    """Mean ratio of the variance between models of one kind to the sampling variance of a score.

    It is 1 where no two models of a kind were measured with intervals.
    """
    total, degrees = 0.0, 0
    for name in names:
        for group in (beside.oracles, beside.originals) if name != _ALIGNMENT else ():
            found = [scores[name] for scores in group if name in scores]
            error = _mean([m.variance for m in found])
            if len(found) > 1 and error > 0:
                total += _variance([m.value for m in found]) / error * (len(found) - 1)
                degrees += len(found) - 1
    low, high = PRIOR_BOUNDS
    return min(max(total / degrees, low), high) if degrees else 1.0


@dataclass(frozen=True)
class _Scale:
    """What the gap of a score is measured by.

    Attributes:
        name: The score.
        oracles: Of the retrained models.
        least: A gap up to here never counts.
        pooled: Pooled ratio of spread to sampling error.
        forget: Number of scores that decide whether a model forgot.
    """

    name: str
    oracles: Sequence[Estimate]
    least: float
    pooled: float
    forget: int

    @cached_property
    def mean(self) -> float:
        return _mean([m.value for m in self.oracles])

    @cached_property
    def placed(self) -> list[Estimate]:
        return [_placed(self.name, m) for m in self.oracles]

    @cached_property
    def centre(self) -> float:
        return _mean([m.value for m in self.placed])

    @cached_property
    def degrees(self) -> float:
        prior = PRIOR_DEGREES if self.sampling > 0 else 0.0
        return prior + len(self.oracles) - 1

    @cached_property
    def sampling(self) -> float:
        return _mean([m.variance for m in self.placed])

    @cached_property
    def spread(self) -> float:
        values = [m.value for m in self.placed]
        return _variance(values) if len(values) > 1 else 0.0

    @cached_property
    def loss(self) -> float:
        """The gap, in standard errors, from which on something is lost that should be kept."""
        return _quantile(KEEP_LEVEL / (self.forget + len(KEEP_SCORES)), self.degrees)

    @cached_property
    def trace(self) -> float:
        """The gap from which on a score is residual, or lost where it should be kept."""
        keep = self.name in KEEP_SCORES
        return self.loss if keep else _quantile(FORGET_LEVEL / self.forget, self.degrees)

    @cached_property
    def over(self) -> float:
        """The gap on the other side from which on it is over-forgotten."""
        # What should be kept may be better than in the oracles, and forget features that lie deeper
        # in the directions of the retained ones take nothing from the retain set.
        return math.inf if self.name in (*KEEP_SCORES, _ALIGNMENT) else self.loss

    @property
    def prior(self) -> float:
        least = LEAST_PRIORS.get(self.name, 0.0)
        return 1.0 if self.name == _ALIGNMENT else max(self.pooled, least)

    def error(self, of: Estimate) -> float:
        """Standard error of value − mean, if the model is one more oracle."""
        count = len(self.oracles)
        if self.sampling <= 0:
            return math.sqrt(self.spread * (1 + 1 / count))
        own = (count - 1) * self.spread / self.sampling
        ratio = max((PRIOR_DEGREES * self.prior + own) / self.degrees, LEAST_RATIO)
        sampling = max(_placed(self.name, of).variance, self.sampling)
        return math.sqrt(ratio * (sampling + self.sampling / count))

    def gap(self, of: Estimate) -> float:
        sign = -1.0 if self.name in (*KEEP_SCORES, *_LOWER_IS_TRACE) else 1.0
        gap, error = sign * (_placed(self.name, of).value - self.centre), self.error(of)
        return gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0

    def way(self, of: Estimate, originals: Sequence[Estimate]) -> float:
        start = _mean([_placed(self.name, m).value for m in originals])
        return (_placed(self.name, of).value - start) / (self.centre - start)

    def position(self, of: Estimate, originals: Sequence[Estimate] = ()) -> Position:
        """Where it stands; over-forgotten only where it is that far beyond the originals too.

        Where an original learnt by heart, features of retrained models may do better than its own
        on held-out forget samples: what lies on the way to them has lost nothing.
        """
        if abs(of.value - self.mean) <= self.least or self.degrees <= 0:
            return "like oracles"
        gap = self.gap(of)
        if gap > self.trace:
            return "lost" if self.name in KEEP_SCORES else "residual"
        if -gap <= self.over:
            return "like oracles"
        beyond = -gap - max([0.0, *(-self.gap(m) for m in originals)])
        return "over-forgotten" if beyond > self.over else "like the original"


def _placed(name: str, of: Estimate) -> Estimate:
    """The score where its spread is the same everywhere: DA as −log(1 − DA), others as they are."""
    if name != _ALIGNMENT:
        return of
    value, half = -math.log(max(1 - of.value, 1e-6)), Z95 * ALIGNMENT_SPREAD
    return Estimate(value, value - half, value + half)


def _score(
    name: str, model: Mapping[str, Estimate], beside: ComparisonScores, pooled: float, forget: int
) -> DecisionScore | None:
    """The score of the model beside the oracles; None where either has none."""
    oracles = [scores[name] for scores in beside.oracles if name in scores]
    if name not in model or not oracles:
        return None
    scale = _Scale(name, oracles, SHARE_OF_SPAN * beside.width(name), pooled, forget)
    before = [scores[name] for scores in beside.originals if name in scores]
    original = _mean([m.value for m in before]) if before else None
    separates = bool(before) and all(scale.position(m) in ("residual", "lost") for m in before)
    own = model[name]
    return DecisionScore(
        name,
        own.value,
        scale.mean,
        original,
        scale.error(own),
        scale.degrees,
        scale.gap(own),
        scale.trace,
        scale.position(own, before),
        separates,
        scale.way(own, before) if separates else None,
    )


def _forgot(
    scores: Sequence[DecisionScore],
    to_keep: Sequence[DecisionScore],
    oracles: int,
    fixed: int,
    has_original: bool,
    trained_on: Collection[str],
) -> Answer:
    residual = tuple(s.name for s in scores if s.position == "residual")
    telling = [s for s in scores if s.separates and s.name not in trained_on]
    nearer = tuple(s.name for s in telling if s.way is not None and s.way < 0.5)
    lost = any(s.position == "lost" for s in to_keep)
    if residual and lost and not set(residual) & set(_KNOWLEDGE):
        return Answer("cannot tell", residual, "what should be kept is lost, which moves these too")
    if residual:
        return Answer("no", residual)
    if oracles < 2:
        return Answer("cannot tell", reason=_too_few(oracles))
    if not has_original:
        return Answer("cannot tell", reason="no original is here to show which score could tell")
    if 2 * len(scores) < fixed or not any(s.name in FEATURE_SCORES for s in scores):
        return Answer("cannot tell", reason=FEW_SCORES)
    if not telling:
        own = tuple(s.name for s in scores if s.separates)
        which = "only scores that the method trains on tell the original from retrained models"
        return Answer("cannot tell", own, which if own else NONE_TELLS)
    if not any(s.name in FEATURE_SCORES for s in telling):
        return Answer("cannot tell", tuple(s.name for s in telling), NO_FEATURES_TELL)
    if nearer:
        return Answer("cannot tell", nearer, "nearer the original than the retrained models")
    return Answer("yes", tuple(s.name for s in telling))


def _kept(
    scores: Sequence[DecisionScore],
    to_forget: Sequence[DecisionScore],
    oracles: int,
    beside: ComparisonScores,
) -> Answer:
    lost = tuple(s.name for s in scores if s.position == "lost")
    over = tuple(s.name for s in to_forget if s.position == "over-forgotten")
    if lost or over:
        return Answer("no", (*lost, *over))
    if not oracles:
        return Answer("cannot tell", reason=_too_few(0))
    if not scores:
        return Answer("cannot tell", reason="no score of what should be kept was measured")
    losses = {s.name: _largest_loss(s) for s in scores}
    hidden = tuple(n for n, loss in losses.items() if loss > BEARABLE_LOSS * beside.width(n))
    if hidden:
        worst = max(losses[n] for n in hidden)
        return Answer("cannot tell", hidden, f"a loss of {worst:.2g} could hide in the noise")
    return Answer("yes", tuple(losses))


def _largest_loss(score: DecisionScore) -> float:
    """Upper end of the one-sided 95 % interval of the loss against the oracles."""
    if score.degrees <= 0:
        return math.inf
    return score.oracles - score.value + _quantile(0.05, score.degrees) * score.error


def _too_few(oracles: int) -> str:
    if not oracles:
        return "there is no retrained model to compare with"
    return "one retrained model does not show how much retrained models differ"


def _quantile(level: float, degrees: float) -> float:
    return -student_t(level, degrees=degrees) if degrees > 0 else math.inf


def _mean(values: Sequence[float]) -> float:
    # The mean of equal numbers may round away from them, and a gap of 0 must be 0.
    if not values:
        return 0.0
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
