"""What membership attacks share: AUC, hits at a low false-positive rate, margins; intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom, binomtest, rankdata

from eigenforget.core.bands import Z95
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Part, Score, Trace
from eigenforget.evaluation.metrics.accuracy import Interval, wilson_interval
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES

FALSE_POSITIVE_RATES = (("tpr_1", 0.01), ("tpr_01", 0.001))
"""Name and false-positive rate of the shares of members found."""


class AttackScores(NamedTuple):
    """Attack scores of both sides, higher = member-like.

    Attributes:
        members: [m].
        others: [n], of non-members.
        called: What the two are called in a reason.
    """

    members: np.ndarray
    others: np.ndarray
    called: tuple[str, str] = ("members", "non-members")

    def lacks(self, needed: tuple[int, int]) -> str:
        """Which side has too few samples, with the counts; empty where both have enough."""
        counts = (len(self.members), len(self.others))
        if all(have >= need for have, need in zip(counts, needed, strict=True)):
            return ""
        return (
            f"needs {needed[0]} {self.called[0]} and {needed[1]} {self.called[1]}, got "
            f"{counts[0]} and {counts[1]}"
        )


class Wins(NamedTuple):
    """Comparisons of each member with each other; a tie counts ½.

    Attributes:
        members: [m], how many others each member beats.
        others: [n], how many members beat each other.
    """

    members: np.ndarray
    others: np.ndarray


class Delong(NamedTuple):
    """An AUC and the variance of its estimate."""

    auc: float
    variance: float


def attack_scores_of(prefix: str, sides: AttackScores) -> tuple[Score, ...]:
    """<prefix>_auc, <prefix>_tpr_1, <prefix>_tpr_01: how well the scores tell members from others.

    The intervals hold for independent samples. Not applicable: fewer than 10 members or 10 others;
    for a TPR fewer others than 1 / its false-positive rate.
    """
    rates = (tpr_score(f"{prefix}_{name}", sides, fpr=fpr) for name, fpr in FALSE_POSITIVE_RATES)
    return (auc_score(f"{prefix}_auc", sides), *rates)


def no_attack(prefix: str, *, reason: str, trace: Trace = "above") -> tuple[Score, ...]:
    """The scores of `attack_scores_of` as not applicable."""
    names = ("auc", *(name for name, _ in FALSE_POSITIVE_RATES))
    return tuple(attack_score(f"{prefix}_{name}", reason, trace=trace) for name in names)


def auc_score(name: str, sides: AttackScores) -> Score:
    """The AUC with DeLong's interval. Not applicable: fewer than 10 samples on a side."""
    reason = sides.lacks((MIN_SAMPLES, MIN_SAMPLES))
    if reason:
        return attack_score(name, reason)
    m, n = len(sides.members), len(sides.others)
    estimate = delong(members=sides.members, others=sides.others)
    return attack_score(name, estimate.auc, auc_interval(estimate, m=m, n=n))


def tpr_score(name: str, sides: AttackScores, *, fpr: float) -> Score:
    """The share of members found at a false-positive rate (threshold_attack), with tpr_interval.

    Not applicable: fewer than 10 members or 1 / fpr others.
    """
    reason = sides.lacks((MIN_SAMPLES, others_needed(fpr)))
    if reason:
        return attack_score(name, reason)
    value = threshold_attack(members=sides.members, others=sides.others, fpr=fpr)
    return attack_score(
        name, value, tpr_interval(members=sides.members, others=sides.others, fpr=fpr)
    )


def attack_score(
    name: str,
    value: float | str,
    interval: Interval | None = None,
    trace: Trace = "above",
) -> Score:
    """A Score from its value, or from the reason why there is none.

    Names that end in "auc" are AUCs, others are shares of samples.
    """
    unit = "AUC" if name.endswith("auc") else "share"
    if isinstance(value, str):
        return Score(name, None, unit, "reference", (0.0, 1.0), reason=value, trace=trace)
    low, high = (None, None) if interval is None else interval
    return Score(name, value, unit, "reference", (0.0, 1.0), low=low, high=high, trace=trace)


def wins(*, members: np.ndarray, others: np.ndarray) -> Wins:
    """Wins of members [m] over others [n] by mid-ranks (Sun & Xu 2014), without the m × n pairs."""
    m = len(members)
    ranks = rankdata(np.concatenate([members, others]))
    return Wins(members=ranks[:m] - rankdata(members), others=m - (ranks[m:] - rankdata(others)))


def delong(*, members: np.ndarray, others: np.ndarray) -> Delong:
    """AUC of members [m] over others [n] and its variance (DeLong et al. 1988).

    The AUC is P(member above) + ½ P(tie). The variance is S10/m + S01/n: the sample variances of
    each member's share of others below it, and of each other's share of members above it.

    Raises:
        EigenforgetError: A side has fewer than 2 samples.
    """
    m, n = len(members), len(others)
    if min(m, n) < 2:
        raise EigenforgetError(f"DeLong's variance needs 2 samples on each side, got {m} and {n}")
    # Sorted first, so that the sums below do not depend on the order of the samples.
    won = wins(members=np.sort(members), others=np.sort(others))
    variance = np.var(won.members / n, ddof=1) / m + np.var(won.others / m, ddof=1) / n
    return Delong(auc=float(won.members.sum() / (m * n)), variance=float(variance))


def auc_interval(estimate: Delong, *, m: int, n: int) -> Interval:
    """95 % interval: AUC ± 1.96 DeLong standard errors, cut to [0, 1].

    Where the variance is 0 (no overlap at all, or all scores tied) a point would claim certainty,
    and Hanley–McNeil's variance is 0 too at 0 and 1. Then it is Wilson's interval for min(m, n)
    trials. That many disjoint pairs of a member and a non-member are independent draws with mean
    AUC and variance at most AUC(1 − AUC). The AUC over all pairs is no less precise.
    """
    if estimate.variance == 0:
        trials = min(m, n)
        return wilson_interval(successes=estimate.auc * trials, trials=trials)
    half = Z95 * math.sqrt(estimate.variance)
    return Interval(low=max(estimate.auc - half, 0.0), high=min(estimate.auc + half, 1.0))


def others_needed(fpr: float) -> int:
    """1 / fpr: how many non-members a false-positive rate takes.

    With fewer no false positive is allowed at all, which is a stricter attack than the one named.
    """
    return math.ceil(1 / fpr - 1e-9)


def threshold_attack(*, members: np.ndarray, others: np.ndarray, fpr: float) -> float:
    """Share of members [m] found by the best threshold with at most floor(fpr · n) false positives.

    "score >= threshold" says member, so tied others all count as false positives. It is the share
    of members strictly above the (floor(fpr · n) + 1)-th largest of the n others.

    Raises:
        EigenforgetError: A side is empty, or fpr is outside (0, 1).
    """
    _check(members, others, fpr)
    return _found(members, _descending(others), allowed=allowed_positives(fpr, len(others)))


def tpr_interval(*, members: np.ndarray, others: np.ndarray, fpr: float) -> Interval:
    """95 % interval of the true-positive rate at a false-positive rate, for any two distributions.

    The threshold is uncertain too. The number of the n others above the true threshold is
    Binomial(n, fpr), so this threshold lies between two order statistics with 97.5 %. At these two,
    which do not depend on the members, the share of members gets its Clopper–Pearson bounds with
    97.5 %. Both hold together with at least 95 % (Bonferroni). It is conservative: with n below 4.4
    / fpr the true threshold may lie above all others, and the lower bound is 0. A bootstrap would
    be narrower there and wrong, since a resample never draws beyond the largest.
    """
    _check(members, others, fpr)
    m, ordered = len(members), _descending(others)
    fewest, most = (int(binom.ppf(q, len(others), fpr)) for q in (0.0125, 0.9875))
    ends = [round(_found(members, ordered, allowed=allowed) * m) for allowed in (fewest - 1, most)]
    low, high = (
        binomtest(k, m).proportion_ci(confidence_level=0.975, method="exact") for k in ends
    )
    return Interval(low=float(low.low), high=float(high.high))


def margins(logits: np.ndarray, labels: np.ndarray, part: Part) -> np.ndarray:
    """φ = f_y − log Σ_{k≠y} exp f_k of logits [N, C], as [N] float64.

    That is log p_y − log(1 − p_y) without its rounding.

    Raises:
        EigenforgetError: A logit is not finite, or there are fewer than 2 classes.
    """
    wide = finite_logits(logits, part)
    if wide.shape[1] < 2:
        raise EigenforgetError(f"part {part}: a margin needs 2 classes, got {wide.shape[1]}")
    rows = np.arange(len(wide))
    others = wide.copy()
    others[rows, labels] = -np.inf
    return np.asarray(wide[rows, labels] - logsumexp(others, axis=1))


def finite_logits(logits: np.ndarray, part: Part) -> np.ndarray:
    """The logits in float64.

    Raises:
        EigenforgetError: One of them is not finite.
    """
    if not np.isfinite(logits).all():
        raise EigenforgetError(
            f"part {part}: a logit is not finite, so a model's loss is not a number"
        )
    return logits.astype(np.float64)


def _found(members: np.ndarray, ordered: np.ndarray, *, allowed: int) -> float:
    """Share of members above the others in descending order, but for the first `allowed` of these.

    With -1 it is the share above a bound that nothing passes.
    """
    if allowed < 0:
        return 0.0
    return 1.0 if allowed >= len(ordered) else float(np.mean(members > ordered[allowed]))


def allowed_positives(fpr: float, n: int) -> int:
    """floor(fpr · n): how many of n others may be taken for members."""
    # 0.29 · 100 is 28.999… in binary: the nudge is far below 1 / n and far above the rounding.
    return math.floor(fpr * n + 1e-9)


def _descending(values: np.ndarray) -> np.ndarray:
    return np.sort(values)[::-1]


def _check(members: np.ndarray, others: np.ndarray, fpr: float) -> None:
    if min(len(members), len(others)) == 0 or not 0 < fpr < 1:
        raise EigenforgetError(
            "a threshold attack needs samples on both sides and 0 < fpr < 1, got "
            f"{len(members)}, {len(others)} and {fpr}"
        )
