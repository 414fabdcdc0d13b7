"""Sample by sample: does the model look as if it unlearned this sample, or never saw it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from eigenforget.core.bands import student_t
from eigenforget.core.seeds import derive
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.evidence import Evidence, Observation, Reads
from eigenforget.evaluation.metrics.accuracy import Interval, wilson_interval
from eigenforget.evaluation.metrics.attacks import (
    FALSE_POSITIVE_RATES,
    Delong,
    allowed_positives,
    attack_score,
    auc_interval,
    margins,
    no_attack,
    others_needed,
    threshold_attack,
    wins,
)
from eigenforget.evaluation.metrics.panel import too_few

PHI_LIMIT = 50.0
"""Odds of e^50 are beyond what float32 logits resolve; a mask of −1e4 would otherwise stretch the
fits by thousands.
"""

FEW_MODELS = 8
"""Below this many models a variance of one sample is mostly noise; LiRA's advice (arXiv 2112.03570)
is then one variance for all.
"""

MIN_VARIANCE = 1e-4
"""Where the models agree to the last bit (all clipped, all alike), a variance of 0 would divide by
0.
"""

DRAWS = 1000


class Gaussian(NamedTuple):
    """mean [n] and variance [n] of φ per sample."""

    mean: np.ndarray
    variance: np.ndarray

    def log_density(self, phi: np.ndarray) -> np.ndarray:
        """[n], up to the constant −½ log 2π."""
        return np.asarray(-0.5 * ((phi - self.mean) ** 2 / self.variance + np.log(self.variance)))


class Statistics(NamedTuple):
    """[J, n] statistics, one row per oracle left out: of the model, and of that oracle."""

    of_model: np.ndarray
    of_oracle: np.ndarray


@configured
class ULiRA:
    """`u_lira_auc`, `u_lira_tpr_1`, `u_lira_tpr_01`: a likelihood-ratio test by sample.

    It tests "unlearned" against "never seen". φ = log p_y − log(1 − p_y), clipped to [−50, 50]. For
    each sample, one Gaussian is fitted to φ of the peers (IN: they had the sample and were made
    like the model), and one to φ of the retrained models (OUT). The statistic is log N(φ; IN) − log
    N(φ; OUT). With fewer than 8 models a side has one variance for all samples, the mean of theirs.
    Each oracle is left out in turn, and OUT is fitted to the others, so that no model is tested
    with a fit that contains it. The model is tested with the same fits, so that one more retrained
    model would be treated like the oracle that is left out. J oracles and n samples give J·n
    positive (the model) and J·n negative (the oracle) statistics.

    In [0, 1]. An AUC of 0.5 means that sample by sample the model cannot be told from a retrained
    one. Above it the model looks like its peers. That is a difference, not yet a residue: peers of
    another recipe are told from retrained models too, though none saw the samples (trace "both").
    Statistics of one sample and of one model are dependent. The interval of the AUC joins
    Obuchowski's variance over samples (Wilson's if it is 0) with the spread over training seeds;
    see `auc_interval_over_models`. The intervals of the TPRs are percentiles of 1,000 seeded
    resamples of samples and oracles. They leave out the model's own seed, and are rather too narrow
    at 0.1 %, since no resample goes beyond the largest statistic. Neither interval covers the draw
    of the peers. Like all margin tests, this one is fooled by a constant margin (arXiv 2602.16400):
    read it beside utility.

    Not applicable: fewer than 2 peers, 3 oracles or 10 forget samples; for a TPR fewer than 100 or
    1,000 negatives.

    Raises:
        EigenforgetError: A logit is not finite.

    Source: Hayes et al. (arXiv 2403.01218). Deviations: shadow models differ in seeds and not in
    which samples they hold; the published test trains hundreds of them.
    """

    name: ClassVar[str] = "u_lira"
    reads: ClassVar[Reads] = "logits"
    ensemble: ClassVar[bool] = True
    least_oracles: ClassVar[int] = 3

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The three scores, or the reason why there are none."""
        peers, oracles = len(evidence.peers), len(evidence.oracles)
        if peers < 2 or oracles < self.least_oracles:
            return no_attack(
                self.name,
                reason="needs 2 peers (made like the model from other training seeds) and 3 "
                f"oracles, got {peers} and {oracles}",
                trace="both",
            )
        n = evidence.count("forget")
        if few := too_few(forget=n):
            return no_attack(self.name, reason=few, trace="both")
        target, ins, outs = (
            _phi(models) for models in ((evidence.parts,), evidence.peers, evidence.oracles)
        )
        tests = _leave_one_out(target[0], ins=ins, outs=outs)
        auc = clustered_auc(tests.of_model, negatives=tests.of_oracle)
        rates = [
            _rate(f"u_lira_{name}", tests, fpr=fpr, seed=seed) for name, fpr in FALSE_POSITIVE_RATES
        ]
        interval = auc_interval_over_models(auc, tests)
        return (attack_score("u_lira_auc", auc.auc, interval, "both"), *rates)


def gaussian(phi: np.ndarray) -> Gaussian:
    """A Gaussian for each sample, fitted to φ [models, n] of at least 2 models.

    Variances are unbiased; there is one for all samples with fewer than 8 models.
    """
    variance = phi.var(axis=0, ddof=1)
    if len(phi) < FEW_MODELS:
        variance = np.full_like(variance, variance.mean())
    return Gaussian(mean=phi.mean(axis=0), variance=np.maximum(variance, MIN_VARIANCE))


def clustered_auc(positives: np.ndarray, *, negatives: np.ndarray) -> Delong:
    """AUC of positives over negatives, and its variance over samples (Obuchowski 1997).

    Both are [J, n] with one column per sample. A sample's influence is the mean share of negatives
    that its positives beat plus the mean share of positives that beat its negatives. The variance
    is the sample variance of the influences over n. With J = 1 and independent columns it is
    DeLong's for paired data.
    """
    n = positives.shape[1]
    won = wins(members=positives.ravel(), others=negatives.ravel())
    # In counts, which are exact: where all samples fare alike the variance is 0 and not a rounding
    # error.
    counts = won.members.reshape(-1, n).sum(axis=0) + won.others.reshape(-1, n).sum(axis=0)
    variance = np.var(counts, ddof=1) / n / (len(positives) * positives.size) ** 2
    return Delong(auc=float(won.members.sum() / positives.size**2), variance=float(variance))


def auc_interval_over_models(estimate: Delong, tests: Statistics) -> Interval:
    """95 % interval of the clustered AUC over the draw of samples and of training seeds, in [0, 1].

    The model's AUC over each oracle alone varies with that oracle's seed, with standard deviation
    s. The mean over J oracles leaves s / √J of it, and the model's own seed adds s again if it
    varies as much as an oracle's: t(J − 1) · s · √(1 + 1/J), joined in quadrature with the
    half-width over samples.
    """
    count, n = tests.of_model.shape
    each = [[side[j : j + 1] for side in tests] for j in range(count)]
    alone = [clustered_auc(own, negatives=others).auc for own, others in each]
    spread = float(
        student_t(0.975, degrees=count - 1) * np.std(alone, ddof=1) * math.sqrt(1 + 1 / count)
    )
    low, high = auc_interval(estimate, m=n, n=n)
    auc = estimate.auc
    return Interval(
        low=max(auc - math.hypot(auc - low, spread), 0.0),
        high=min(auc + math.hypot(high - auc, spread), 1.0),
    )


def _leave_one_out(target: np.ndarray, *, ins: np.ndarray, outs: np.ndarray) -> Statistics:
    unlearned = gaussian(ins)
    of_model: list[np.ndarray] = []
    of_oracle: list[np.ndarray] = []
    for j, oracle in enumerate(outs):
        unseen = gaussian(np.delete(outs, j, axis=0))
        for phi, found in ((target, of_model), (oracle, of_oracle)):
            found.append(unlearned.log_density(phi) - unseen.log_density(phi))
    return Statistics(np.stack(of_model), np.stack(of_oracle))


def _rate(name: str, tests: Statistics, *, fpr: float, seed: int) -> Score:
    """Share of the model's statistics above the threshold that the oracles' leave at this rate."""
    needed, (count, n) = others_needed(fpr), tests.of_oracle.shape
    if count * n < needed:
        return attack_score(
            name,
            f"needs {needed} statistics of models that never saw the samples, got {count * n}",
            trace="both",
        )
    value = threshold_attack(
        members=tests.of_model.ravel(), others=tests.of_oracle.ravel(), fpr=fpr
    )
    resampled, rng = Resamples(tests, fpr), np.random.default_rng(derive(seed, "u_lira", name))
    draws = [
        resampled.hits(rng.integers(0, count, size=(count,)), rng.integers(0, n, size=(n,)))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    if low == high:
        # All resamples alike: a point would claim certainty, see auc_interval.
        return attack_score(name, value, wilson_interval(successes=value * n, trials=n), "both")
    interval = Interval(low=min(float(low), value), high=max(float(high), value))
    return attack_score(name, value, interval, "both")


class Resamples:
    """`threshold_attack` on resamples of oracles and samples, without sorting any of them.

    A statistic counts as often as its oracle was drawn times as often as its sample was.

    Args:
        tests: The statistics.
        fpr: The false-positive rate.
    """

    def __init__(self, tests: Statistics, fpr: float) -> None:
        self.of_model = tests.of_model
        self.allowed = allowed_positives(fpr, tests.of_oracle.size)
        highest = tests.of_oracle.ravel().argsort()[::-1]
        self.ordered = tests.of_oracle.ravel()[highest]
        self.places = np.unravel_index(highest, tests.of_oracle.shape)

    def hits(self, oracles: np.ndarray, samples: np.ndarray) -> float:
        """The share of the model's statistics found in the resample with these rows and columns."""
        by_oracle, by_sample = (
            np.bincount(drawn, minlength=size).astype(np.float64)
            for drawn, size in zip((oracles, samples), self.of_model.shape, strict=True)
        )
        above = (self.of_model > self._threshold(by_oracle, by_sample)).astype(np.float64)
        return float(by_oracle @ above @ by_sample) / self.of_model.size

    def _threshold(self, by_oracle: np.ndarray, by_sample: np.ndarray) -> float:
        """The highest statistic of the oracles that is not among the allowed false positives."""
        length = 2 * self.allowed + 64
        while True:
            rows, columns = (place[:length] for place in self.places)
            passed = (by_oracle[rows] * by_sample[columns]).cumsum()
            if passed[-1] > self.allowed:
                return float(self.ordered[passed.searchsorted(self.allowed, side="right")])
            length *= 2


def _phi(models: Sequence[Observation]) -> np.ndarray:
    """[models, n] clipped margins on the forget samples."""
    rows = [seen["forget"] for seen in models]
    phi = np.stack([margins(r.logits, r.labels, "forget") for r in rows])
    return np.asarray(phi.clip(-PHI_LIMIT, PHI_LIMIT))
