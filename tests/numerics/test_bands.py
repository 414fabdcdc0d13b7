"""The retrained models' band, verdicts beside it and intervals over training seeds, against scipy,
simulation and enumeration.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eigenforget.core.bands import (
    MIN_ITEMS,
    Band,
    band,
    bands_of_others,
    bootstrap_interval,
    kendall_agreement,
    paired_difference,
    units,
    verdict,
)
from eigenforget.core.errors import EigenforgetError

OPEN = (None, None)


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_a_band_is_the_students_t_prediction_interval(count: int) -> None:
    values = np.random.default_rng(count).normal(3.0, 2.0, count)
    found = band(values, span=OPEN)
    scale = values.std(ddof=1) * np.sqrt(1 + 1 / count)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=scale)
    assert found is not None and found.models == count
    assert (found.low, found.mean, found.high) == pytest.approx(
        (low, values.mean(), high), rel=1e-12
    )


def test_two_values_by_hand() -> None:
    found = band([0.0, 1.0], span=(0.0, 1.0))
    quantile = math.tan(
        math.pi * 0.475
    )  # Student's t with one degree of freedom is Cauchy's distribution
    assert found == pytest.approx((0.5, quantile * math.sqrt(0.5) * math.sqrt(1.5), 2))


@pytest.mark.parametrize("count", [3, 5])
def test_one_more_oracle_lies_in_the_band_95_times_in_100(count: int) -> None:
    draws = np.random.default_rng(7).normal(size=(4000, count + 1))
    inside = [abs(units(row[-1], band(row[:-1], span=OPEN))) <= 1 for row in draws]
    low, high = stats.binom.interval(0.999, len(draws), 0.95)
    assert low <= sum(inside) <= high


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("span", [OPEN, (0.0, 1.0)])
def test_the_bands_of_the_others_are_those_without_each_value(pairs: bool, span: tuple) -> None:
    draws = np.random.default_rng(0).random(40)
    for values in (draws, draws[:2], draws[:3], [0.5, 0.5, 1e-300, 0.5], [1e9, 1e-9, 3.0, 1e9]):
        others = [[*values[:i], *values[i + 1 :]] for i in range(len(values))]
        expected = [band(rest, span=span, pairs=pairs) for rest in others]
        assert bands_of_others(values, span=span, pairs=pairs) == expected
    assert bands_of_others([], span=span) == []


def test_an_outlier_leaves_no_trace_in_the_band_of_the_others() -> None:
    *_, last = bands_of_others([0.1, 0.1, 0.1, 1e12], span=OPEN)
    assert last == pytest.approx((0.1, 1e-12, 3), rel=1e-15), (
        "in floating point its square would hide theirs"
    )


def test_floors() -> None:
    assert band([0.4, 0.4, 0.4], span=(0.0, 1.0)) == pytest.approx((0.4, 0.005, 3))
    assert band([0.4, 0.4], span=(-1.0, 1.0)) == pytest.approx((0.4, 0.01, 2))
    for span in [OPEN, (0.0, None), (None, 1.0), (0.0, math.inf)]:
        assert band([7e6, 7e6], span=span) == pytest.approx((7e6, 7e-6, 2))
        assert band([0.0, 0.0], span=span) == pytest.approx((0.0, 1e-12, 2))
    wide = band([0.0, 1.0], span=(0.0, 1.0))
    assert wide is not None and wide.half > 1, "the floor does not narrow a band"


def test_too_few_values_and_values_that_are_none() -> None:
    assert band([], span=(0.0, 1.0)) is None and band([0.5], span=(0.0, 1.0)) is None
    for wrong in (math.nan, math.inf):
        with pytest.raises(EigenforgetError, match="finite"):
            band([0.5, 0.6, wrong], span=(0.0, 1.0))


@settings(max_examples=50, deadline=None)
@given(st.permutations([0.1, 0.7, 1e-9, 0.30000000000000004, 5e3]))
def test_order_of_the_oracles_changes_no_bit(values: list[float]) -> None:
    assert band(values, span=OPEN) == band(sorted(values), span=OPEN)
    assert bootstrap_interval(values, seed=1, resamples=50) == bootstrap_interval(
        sorted(values), seed=1, resamples=50
    )


BELOW_AND_ABOVE = {
    ("reference", "above"): ("over-forgotten", "residual"),
    ("reference", "below"): ("residual", "over-forgotten"),
    ("reference", "both"): ("off", "off"),
    ("reference", ""): ("off", "off"),
    ("higher", "above"): ("over-forgotten", "residual"),
    ("higher", "below"): ("residual", "over-forgotten"),
    ("higher", "both"): ("off", "in"),
    ("higher", ""): ("over-forgotten", "in"),
    ("lower", "above"): ("over-forgotten", "residual"),
    ("lower", "below"): ("residual", "over-forgotten"),
    ("lower", "both"): ("in", "off"),
    ("lower", ""): ("in", "off"),
}


@pytest.mark.parametrize(
    ("better", "trace"),
    itertools.product(["higher", "lower", "reference"], ["above", "below", "both", ""]),
)
def test_every_verdict(better: str, trace: str) -> None:
    around = Band(0.5, 0.25, 3)
    below, above = BELOW_AND_ABOVE[better, trace]
    for value in (0.25, 0.25 - 1e-11, 0.4, 0.5, 0.75, 0.75 + 1e-11):
        assert verdict(value, around, better=better, trace=trace) == "in"
    for distance in (0.2500001, 0.4, 1e6):
        assert verdict(0.5 - distance, around, better=better, trace=trace) == below
        assert verdict(0.5 + distance, around, better=better, trace=trace) == above


def test_units_are_signed_half_widths() -> None:
    assert units(1.0, Band(0.5, 0.25, 3)) == 2.0 and units(0.0, Band(0.5, 0.25, 3)) == -2.0


@pytest.mark.parametrize(("better", "trace"), [("best", ""), ("higher", "left"), ("", "above")])
def test_no_verdict_on_what_is_not_declared(better: str, trace: str) -> None:
    with pytest.raises(EigenforgetError, match="no verdict"):
        verdict(0.5, Band(0.5, 0.1, 2), better=better, trace=trace)
    with pytest.raises(EigenforgetError, match="finite"):
        verdict(math.nan, Band(0.5, 0.1, 2), better="higher", trace="")


def test_bootstrap_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=12)
    mine = bootstrap_interval(values, seed=0, resamples=20_000)
    reference = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=0.95,
        n_resamples=20_000,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    assert mine == pytest.approx(tuple(reference), abs=0.03 * values.std())
    narrow = bootstrap_interval(values, seed=0, level=0.5)
    assert mine[0] < narrow[0] < values.mean() < narrow[1] < mine[1]


@pytest.mark.parametrize("level", [0.95, 0.6])
def test_bootstrap_of_four_seeds_against_all_256_resamples(level: float) -> None:
    values = [0.1, 0.25, 0.7, 1.9]
    means = np.sort([np.mean(rows) for rows in itertools.product(values, repeat=4)])
    for found, share in zip(
        bootstrap_interval(values, seed=5, level=level),
        ((1 - level) / 2, (1 + level) / 2),
        strict=True,
    ):
        below, up_to = (means < found - 1e-12).mean(), (means <= found + 1e-12).mean()
        assert below - 0.015 <= share <= up_to + 0.015


def test_bootstrap_of_three_seeds_reaches_from_the_least_to_the_largest() -> None:
    # One resample in 27 holds a single value three times, more than the 2.5 % outside on either
    # side.
    assert bootstrap_interval([0.2, 0.9, 0.4], seed=0) == pytest.approx((0.2, 0.9))
    assert bootstrap_interval([0.3, 0.3], seed=0) == (0.3, 0.3)


def test_bootstrap_repeats_and_leaves_global_randomness_alone() -> None:
    values = [0.2, 0.9, 0.4, 0.5, 0.1, 0.35]
    state = str(np.random.get_state())
    first = bootstrap_interval(values, seed=4)
    assert first == bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)
    assert str(np.random.get_state()) == state


def test_bootstrap_refuses() -> None:
    for values in ([], [0.5]):
        with pytest.raises(EigenforgetError, match="at least 2 training seeds, got"):
            bootstrap_interval(values, seed=0)
    with pytest.raises(EigenforgetError, match="finite"):
        bootstrap_interval([0.1, math.nan], seed=0)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(EigenforgetError, match="level"):
            bootstrap_interval([0.1, 0.2], seed=0, level=level)
    with pytest.raises(EigenforgetError, match="resample"):
        bootstrap_interval([0.1, 0.2], seed=0, resamples=0)


def test_paired_difference_takes_away_what_a_seed_adds_to_both() -> None:
    rng = np.random.default_rng(0)
    seeds_effect, gaps = rng.normal(scale=10.0, size=8), rng.normal(0.5, 0.1, size=8)
    found = paired_difference(seeds_effect + gaps, seeds_effect, seed=2)
    assert found.mean == pytest.approx(gaps.mean()) and found.pairs == 8
    assert (found.low, found.high) == pytest.approx(bootstrap_interval(gaps, seed=2), abs=1e-9)
    assert 0.3 < found.low < found.mean < found.high < 0.7
    back = paired_difference(seeds_effect, seeds_effect + gaps, seed=2)
    assert back.mean == pytest.approx(-found.mean) and back.low < back.mean < back.high < 0
    order = rng.permutation(8)
    assert paired_difference((seeds_effect + gaps)[order], seeds_effect[order], seed=2) == found
    assert paired_difference([1.0, 2.0], [1.0, 2.0], seed=0) == (0.0, 0.0, 0.0, 2)


def test_paired_difference_refuses() -> None:
    with pytest.raises(EigenforgetError, match="got 2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0], seed=0)
    with pytest.raises(EigenforgetError, match="at least 2"):
        paired_difference([1.0], [2.0], seed=0)


def slow_tau(a: np.ndarray, b: np.ndarray) -> float:
    """(concordant − discordant) / √((pairs not tied in a) (pairs not tied in b)), pair by pair."""
    signs = [
        (np.sign(a[i] - a[j]), np.sign(b[i] - b[j]))
        for i, j in itertools.combinations(range(len(a)), 2)
    ]
    return sum(x * y for x, y in signs) / math.sqrt(
        sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)
    )


@pytest.mark.parametrize("seed", range(3))
def test_agreement_is_kendalls_tau_b(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, 9), rng.integers(0, 4, 9)
    found = kendall_agreement(a, b)
    assert (
        found.tau == pytest.approx(slow_tau(a, b)) and found.items == 9 and 0 <= found.p_value <= 1
    )
    assert kendall_agreement(b, a).tau == pytest.approx(found.tau)
    assert kendall_agreement(-a, b).tau == pytest.approx(-found.tau)
    assert kendall_agreement(a, a).tau == pytest.approx(1.0)


def test_six_items_can_be_told_from_chance_and_five_hardly() -> None:
    six = kendall_agreement(range(6), [0, 1, 2, 3, 5, 4])
    assert (
        six.p_value == pytest.approx(2 * 6 / math.factorial(6))
        and six.p_value < 0.05
        and MIN_ITEMS == 6
    )
    assert kendall_agreement(range(6), range(6)).p_value == pytest.approx(2 / math.factorial(6))
    assert stats.kendalltau(range(5), [0, 1, 2, 4, 3]).pvalue > 0.05
    with pytest.raises(
        EigenforgetError, match=r"5 methods cannot tell .* at least 6 are needed"
    ) as refused:
        kendall_agreement(range(5), range(5))
    assert "\n" not in str(refused.value)


def test_agreement_refuses_what_is_no_ranking() -> None:
    with pytest.raises(EigenforgetError, match="got 6 and 7"):
        kendall_agreement(range(6), range(7))
    with pytest.raises(EigenforgetError, match="all items are tied"):
        kendall_agreement([1.0] * 6, range(6))
    with pytest.raises(EigenforgetError, match="finite"):
        kendall_agreement([0, 1, 2, 3, 4, math.nan], range(6))


def test_a_band_is_shown_as_far_as_the_score_can_reach() -> None:
    found = Band(mean=0.98, half=0.05, models=3)
    assert found.within((0.0, 1.0)) == (0.98 - 0.05, 1.0) and found.within((None, None)) == (
        found.low,
        found.high,
    )
    assert Band(0.01, 0.05, 3).within((0.0, None)) == (0.0, 0.01 + 0.05)
