"""The band of retrained models: where one more of them would lie.

It also says what a value outside the band means. Beside it: intervals over training seeds, and the
agreement of two rankings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from eigenforget.core.errors import EigenforgetError

BandVerdict = Literal["in", "residual", "over-forgotten", "off"]

SHARE_OF_SPAN = 0.005
"""A band is at least this share of its score's range on either side: half a point of an accuracy.
Two or three oracles that happen to agree would otherwise make a band that no further oracle stays
in."""

Z95 = 1.959963984540054
"""Standard errors on either side of a 95 % interval of a normal value."""

MIN_ITEMS = 6
"""Over 5 items only the complete agreement of two rankings is significant (p = 2/5!; one swap of
neighbours has p = 0.083).
"""

_TOLERANCE = 1e-9
_BETTER = ("higher", "lower", "reference")
_TRACES = ("above", "below", "both", "")


class Band(NamedTuple):
    """The interval mean ± half of that many retrained models; half is positive."""

    mean: float
    half: float
    models: int

    @property
    def low(self) -> float:
        """Lower end of the band."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the band."""
        return self.mean + self.half

    def within(self, span: tuple[float | None, float | None]) -> tuple[float, float]:
        """The ends as far as the score can reach, for display: a share has no band below 0."""
        low, high = span
        return (self.low if low is None else max(self.low, low)), (
            self.high if high is None else min(self.high, high)
        )


class PairedDifference(NamedTuple):
    """The mean of a − b over the pairs and its 95 % interval."""

    mean: float
    low: float
    high: float
    pairs: int


class Agreement(NamedTuple):
    """How two rankings of the same items agree.

    Args:
        tau: Kendall's tau-b, in [−1, 1].
        p_value: Two-sided, under independence.
        items: Number of items.
    """

    tau: float
    p_value: float
    items: int


def shares_pairs(name: str) -> bool:
    """Whether a score of an oracle is its mean distance to the other oracles.

    These are the scores whose names end in "_oracle", and the tug of war.
    """
    stem = name.partition("@")[0]
    return stem.endswith("_oracle") or stem in ("tow", "tow_mia")


def band(
    values: Sequence[float], *, span: tuple[float | None, float | None], pairs: bool = False
) -> Band | None:
    """The 95 % prediction interval for one more retrained model, from the values of n of them.

    The half-width is t(0.975, n − 1) · s · √(1 + 1/n), with s the sample standard deviation. It is
    an interval for the next normal draw, not for the mean, so that a further oracle lies inside
    with probability 0.95 whatever n is. The half-width is at least SHARE_OF_SPAN of the score's
    range where both its ends are finite, and always positive. The order of the values does not
    matter.

    Args:
        values: The score of each retrained model.
        span: Range of the score; None is an open end.
        pairs: Each value is an oracle's mean distance to the others (see `shares_pairs`). Two
            values then share a distance, so they differ less than those of independent models. With
            distances a_i + a_j the mean of oracle i moves by (n − 2)/(n − 1) of a_i. s is divided
            by that.

    Returns:
        The band, or None for fewer than 2 values; with `pairs` for fewer than 3, since two oracles
        have one and the same distance.

    Raises:
        EigenforgetError: A value is not finite.
    """
    return _Sums.of(values).band(span, pairs=pairs)


def bands_of_others(
    values: Sequence[float], *, span: tuple[float | None, float | None], pairs: bool = False
) -> list[Band | None]:
    """For each of n values the `band` of the n − 1 others, in time that grows with n.

    Args:
        values: The score of each retrained model.
        span: As in `band`.
        pairs: As in `band`.

    Raises:
        EigenforgetError: A value is not finite.
    """
    whole = _Sums.of(values)
    return [whole.without(float(value)).band(span, pairs=pairs) for value in values]


class _Sums(NamedTuple):
    """The sum of values and of their squares, exact: integers, in units of 1 / unit."""

    models: int
    total: int
    squares: int
    unit: int

    @classmethod
    def of(cls, values: Sequence[float]) -> _Sums:
        ratios = [v.as_integer_ratio() for v in _finite(values, "the band of retrained models")]
        unit = max((below for _, below in ratios), default=1)  # powers of two, so all divide it
        whole = [above * (unit // below) for above, below in ratios]
        return cls(len(whole), sum(whole), sum(v * v for v in whole), unit)

    def without(self, value: float) -> _Sums:
        above, below = value.as_integer_ratio()
        own = above * (self.unit // below)
        return _Sums(self.models - 1, self.total - own, self.squares - own * own, self.unit)

    def band(self, span: tuple[float | None, float | None], *, pairs: bool) -> Band | None:
        count = self.models
        if count < (3 if pairs else 2):
            return None
        mean = self.total / self.unit / count
        deviations = count * self.squares - self.total**2
        spread = math.sqrt(deviations / (count * (count - 1) * self.unit**2))
        if pairs:
            spread *= (count - 1) / (count - 2)
        half = student_t(0.975, degrees=count - 1) * spread * math.sqrt(1 + 1 / count)
        return Band(mean, max(half, _floor(span), 1e-12 * max(1.0, abs(mean))), count)


def limit_of_several(models: int, *, values: int) -> float:
    """Half-widths from which on one of several values lies outside the band of that many models.

    With a chance of 5 % any of `values` further retrained models lies beyond ± this (Bonferroni).
    It is t(1 − 0.025 / values, models − 1) ÷ t(0.975, models − 1), which is 1 for one value.
    """
    return student_t(1 - 0.025 / values, degrees=models - 1) / student_t(0.975, degrees=models - 1)


@cache
def student_t(level: float, *, degrees: float) -> float:
    """The quantile of Student's t at a level, for so many degrees of freedom."""
    from scipy.special import stdtrit  # it takes a tenth of the time that torch takes to load

    return float(stdtrit(degrees, level))


def units(value: float, band: Band) -> float:
    """The signed gap (value − mean) / half; within ±1 lies what a retrained model may have."""
    return (value - band.mean) / band.half


def verdict(value: float, band: Band, *, better: str, trace: str) -> BandVerdict:
    """What a value says relative to the band.

    Inside it is "in". Outside, it depends on the score's `trace`: with "above" it is "residual"
    above the band and "over-forgotten" below it; with "below" the reverse. With "both", a distance,
    it is "off", since a distance says that something differs but not in which sense. If one side of
    the score is better, it is "off" only on the worse side. Without a trace: better "higher" gives
    "over-forgotten" below the band (what should be kept is lost) and "in" above; "lower", a cost,
    gives "off" above and "in" below; "reference" gives "off".

    Args:
        value: The score of the model.
        band: The band of the retrained models.
        better: "higher", "lower" or "reference", as in `types.Score`.
        trace: "above", "below", "both" or "", as in `types.Score`.

    Raises:
        EigenforgetError: `better` or `trace` is another word, or the value is not finite.
    """
    if better not in _BETTER or trace not in _TRACES:
        raise EigenforgetError(
            f"no verdict for better={better!r}, trace={trace!r}; they are of {_BETTER} and "
            f"{_TRACES}"
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
    """The percentile bootstrap interval of the mean over training seeds.

    The same seed gives the same bits, and the order of the values does not matter. With few
    training seeds the interval is too narrow (for 3 it covers about 75 % at a nominal 95 %). Report
    their number beside it.

    Args:
        values: One value for each training seed.
        seed: Of the resampling.
        level: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.

    Raises:
        EigenforgetError: There are fewer than 2 values, one is not finite, or `level` is not in (0,
            1).
    """
    found = np.array(_sorted(values, "a bootstrap interval"))
    if len(found) < 2:
        raise EigenforgetError(
            f"a bootstrap interval needs the values of at least 2 training seeds, got {len(found)}"
        )
    if not (0 < level < 1 and resamples >= 1):
        raise EigenforgetError(
            f"a bootstrap needs a level in (0, 1) and at least 1 resample, got {level} and "
            f"{resamples}"
        )
    rows = np.random.default_rng(seed).integers(len(found), size=(resamples, len(found)))
    low, high = np.quantile(found[rows].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int) -> PairedDifference:
    """The mean of a − b over training seeds, with the percentile bootstrap over the pairs.

    a[i] and b[i] come from the same training seed, so what the seed adds to both cancels. The order
    of the pairs does not matter.

    Raises:
        EigenforgetError: The lengths differ, or there are fewer than 2 pairs.
    """
    if len(a) != len(b):
        raise EigenforgetError(
            f"a paired difference needs one value of each per training seed, got {len(a)} and "
            f"{len(b)}"
        )
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    low, high = bootstrap_interval(gaps, seed=seed)
    return PairedDifference(math.fsum(gaps) / len(gaps), low, high, len(gaps))


def kendall_agreement(ranks_a: Sequence[float], ranks_b: Sequence[float]) -> Agreement:
    """How far two scores rank the same items alike: Kendall's tau-b with ties.

    Computed by scipy.stats.kendalltau.

    Raises:
        EigenforgetError: The lengths differ, there are fewer than MIN_ITEMS items, all items of one
            side are tied, or a value is not finite.
    """
    if len(ranks_a) != len(ranks_b):
        raise EigenforgetError(
            f"two rankings must be of the same items, got {len(ranks_a)} and {len(ranks_b)}"
        )
    count = len(ranks_a)
    if count < MIN_ITEMS:
        raise EigenforgetError(
            f"a rank test over {count} methods cannot tell agreement from chance unless it is "
            f"complete; at least {MIN_ITEMS} are needed"
        )
    for ranks in (ranks_a, ranks_b):
        if len(set(_sorted(ranks, "a ranking"))) == 1:
            raise EigenforgetError(
                "a ranking in which all items are tied agrees with nothing; Kendall's tau is "
                "undefined"
            )
    from scipy.stats import kendalltau

    found = kendalltau(ranks_a, ranks_b, variant="b")
    return Agreement(float(found.statistic), float(found.pvalue), count)


def _sorted(values: Sequence[float], what: str) -> list[float]:
    return sorted(_finite(values, what))


def _finite(values: Sequence[float], what: str) -> list[float]:
    found = [float(v) for v in values]
    for value in found:
        if not math.isfinite(value):
            raise EigenforgetError(f"{what} needs finite numbers, got {value}")
    return found


def _floor(span: tuple[float | None, float | None]) -> float:
    low, high = span
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return 0.0
    return SHARE_OF_SPAN * (high - low)
