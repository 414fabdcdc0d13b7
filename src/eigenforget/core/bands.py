"""The retrained models' band: where one more of them would lie, what a value outside it means, and
intervals over training seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from eigenforget.core.errors import EigenforgetError

BandVerdict = Literal["in", "residual", "over-forgotten", "off"]

SHARE_OF_SPAN = 0.005
"""A band is at least this share of its score's range on either side: half a point of an accuracy.
Two or three oracles that happen to agree would otherwise make a band that no further oracle stays
in."""

MIN_ITEMS = 6
"""Over 5 items only the complete agreement of two rankings is significant (p = 2/5!; one swap of
neighbours has p = 0.083).
"""

_TOLERANCE = 1e-9
_BETTER = ("higher", "lower", "reference")
_TRACES = ("above", "below", "both", "")


class Band(NamedTuple):
    """mean ± half, from that many retrained models; half is positive."""

    mean: float
    half: float
    models: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def within(self, span: tuple[float | None, float | None]) -> tuple[float, float]:
        """The ends as far as the score can reach, for people: a share has no band below 0."""
        low, high = span
        return (self.low if low is None else max(self.low, low)), (
            self.high if high is None else min(self.high, high)
        )


class PairedDifference(NamedTuple):
    """mean of a − b over the pairs and its 95 % interval."""

    mean: float
    low: float
    high: float
    pairs: int


class Agreement(NamedTuple):
    """Kendall's tau-b in [−1, 1] of two rankings of the same items, and its two-sided p-value under
    independence.
    """

    tau: float
    p_value: float
    items: int


def shares_pairs(name: str) -> bool:
    """Whether a score of an oracle is its mean distance to the other oracles: names that end in
    "_oracle", and the tug of war.
    """
    stem = name.partition("@")[0]
    return stem.endswith("_oracle") or stem in ("tow", "tow_mia")


def band(
    values: Sequence[float], *, span: tuple[float | None, float | None], pairs: bool = False
) -> Band | None:
    """95 % prediction interval for one more retrained model, from the values of n of them; None for
    fewer than 2.

    half = t(0.975, n − 1) · s · √(1 + 1/n), s the sample standard deviation: an interval for the
    next normal draw, not for the mean, so that a further oracle is inside with probability 0.95
    whatever n is. Floors: SHARE_OF_SPAN of the score's range `span` where both its ends are finite,
    and a positive number always. The order of the values does not matter. Errors: a value that is
    not finite.

    pairs: each value is an oracle's mean distance to the others (see shares_pairs). Two values then
    share a distance, so they differ less than those of independent models: with distances a_i + a_j
    the mean of oracle i moves by (n − 2)/(n − 1) of a_i. s is divided by that, and there is no band
    for fewer than 3, of which two are one and the same distance.
    """
    found = _sorted(values, "the band of retrained models")
    count = len(found)
    if count < (3 if pairs else 2):
        return None
    mean = math.fsum(found) / count
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (count - 1))
    if pairs:
        spread *= (count - 1) / (count - 2)
    half = float(stats.t.ppf(0.975, count - 1)) * spread * math.sqrt(1 + 1 / count)
    return Band(mean, max(half, _floor(span), 1e-12 * max(1.0, abs(mean))), count)


def units(value: float, band: Band) -> float:
    """Signed gap (value − mean) / half: within ±1 the value is one that a retrained model may have."""
    return (value - band.mean) / band.half


def verdict(value: float, band: Band, *, better: str, trace: str) -> BandVerdict:
    """What a value says beside the band, by the score's `better` and `trace` (types.Score).

    Inside: "in". Outside, trace "above": "residual" above the band, "over-forgotten" below it;
    "below": the reverse. trace "both", a distance: "off", since it says that something differs and
    not in which sense; with a better side ("higher", "lower") only off on the worse one. trace "",
    better "higher": "over-forgotten" below the band (what should be kept is lost), "in" above;
    "lower", a cost: "off" above, "in" below; "reference": "off". Errors: another `better` or
    `trace`, a value that is not finite.
    """
    if better not in _BETTER or trace not in _TRACES:
        raise EigenforgetError(
            f"no verdict for better={better!r}, trace={trace!r}; they are of {_BETTER} and {_TRACES}"
        )
    gap = units(value, band)
    if not math.isfinite(gap):
        raise EigenforgetError(f"no verdict for the value {value}; it must be a finite number")
    if abs(gap) <= 1 + _TOLERANCE:
        return "in"
    if trace in ("above", "below"):
        return "residual" if (gap > 0) == (trace == "above") else "over-forgotten"
    if (better == "higher" and gap > 0) or (better == "lower" and gap < 0):
        return "in"
    return "over-forgotten" if better == "higher" and trace == "" else "off"


def bootstrap_interval(
    values: Sequence[float], *, seed: int, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over training seeds, one value each; the order of
    the values does not matter.

    The same seed gives the same bits. With few seeds it is too narrow (for 3 it covers about 75 %
    at a nominal 95 %): say how many there are beside it. Errors: fewer than 2 values, one that is
    not finite, level outside (0, 1).
    """
    found = np.array(_sorted(values, "a bootstrap interval"))
    if len(found) < 2:
        raise EigenforgetError(
            f"a bootstrap interval needs the values of at least 2 training seeds, got {len(found)}"
        )
    if not (0 < level < 1 and resamples >= 1):
        raise EigenforgetError(
            f"a bootstrap needs a level in (0, 1) and at least 1 resample, got {level} and {resamples}"
        )
    rows = np.random.default_rng(seed).integers(len(found), size=(resamples, len(found)))
    low, high = np.quantile(found[rows].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int) -> PairedDifference:
    """Mean of a − b over training seeds, a[i] and b[i] of the same seed, with the percentile
    bootstrap over the pairs.

    What a seed adds to both cancels. The order of the pairs does not matter. Errors: different
    lengths, fewer than 2 pairs.
    """
    if len(a) != len(b):
        raise EigenforgetError(
            f"a paired difference needs one value of each per training seed, got {len(a)} and {len(b)}"
        )
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    low, high = bootstrap_interval(gaps, seed=seed)
    return PairedDifference(math.fsum(gaps) / len(gaps), low, high, len(gaps))


def rank_agreement(ranks_a: Sequence[float], ranks_b: Sequence[float]) -> Agreement:
    """How far two scores rank the same items (methods) alike: Kendall's tau-b, ties counted
    (scipy.stats.kendalltau).

    Errors: different lengths, fewer than MIN_ITEMS items, a side on which all are tied, values that
    are not finite.
    """
    if len(ranks_a) != len(ranks_b):
        raise EigenforgetError(
            f"two rankings must be of the same items, got {len(ranks_a)} and {len(ranks_b)}"
        )
    count = len(ranks_a)
    if count < MIN_ITEMS:
        raise EigenforgetError(
            f"a rank test over {count} methods cannot tell agreement from chance unless it is complete; at least {MIN_ITEMS} are needed"
        )
    for ranks in (ranks_a, ranks_b):
        if len(set(_sorted(ranks, "a ranking"))) == 1:
            raise EigenforgetError(
                "a ranking in which all items are tied agrees with nothing; Kendall's tau is undefined"
            )
    found = stats.kendalltau(ranks_a, ranks_b, variant="b")
    return Agreement(float(found.statistic), float(found.pvalue), count)


def _sorted(values: Sequence[float], what: str) -> list[float]:
    found = sorted(float(v) for v in values)
    for value in found:
        if not math.isfinite(value):
            raise EigenforgetError(f"{what} needs finite numbers, got {value}")
    return found


def _floor(span: tuple[float | None, float | None]) -> float:
    low, high = span
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return 0.0
    return SHARE_OF_SPAN * (high - low)
