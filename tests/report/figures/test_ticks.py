"""Ends of axes and round numbers on them."""

from __future__ import annotations

import math

import pytest

from eigenforget.report.figures.drawing import Axis
from eigenforget.report.figures.ticks import axis_ends, round_numbers, tick_text


@pytest.mark.parametrize(
    ("ends", "log", "numbers"),
    [
        ((0.0, 1.0), False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((-0.02, 1.02), False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((1.02, -0.02), False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((-3.0, 93.0), False, [0, 20, 40, 60, 80]),
        ((0.98, 1.0), False, [0.98, 0.985, 0.99, 0.995, 1.0]),
        ((0.0013, 0.0098), False, [0.002, 0.004, 0.006, 0.008]),
        ((1.0, 10.0), True, [1, 2, 5, 10]),
        ((0.76, 1.28), True, [0.8, 0.9, 1.0, 1.1, 1.2]),
        ((1.0, 1000.0), True, [1, 10, 100, 1000]),
        ((1e-9, 1.0), True, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
    ],
)
def test_round_numbers(ends: tuple[float, float], log: bool, numbers: list[float]) -> None:
    assert round_numbers(ends[0], high=ends[1], log=log) == pytest.approx(numbers)


def test_numbers_are_few_and_inside_whatever_the_ends() -> None:
    for power in range(-6, 7):
        for width in (1.0, 2.3, 4.9, 7.7):
            low, high = -0.3 * 10.0**power, (width - 0.3) * 10.0**power
            found = round_numbers(low, high=high, log=False)
            assert 2 <= len(found) <= 7 and all(low < v < high + 1e-9 * (high - low) for v in found)


@pytest.mark.parametrize("most", [2, 3, 4, 6])
def test_a_scale_has_two_numbers_at_least(most: int) -> None:
    for start in range(97):
        low = start / 97
        assert len(round_numbers(low, high=low + 0.85, log=False, most=most)) >= 2


def test_ends_follow_the_data_with_some_room() -> None:
    assert axis_ends(Axis(range=(3.0, 1.0)), [9.0]) == (3.0, 1.0)
    low, high = axis_ends(Axis(), [1.0, 3.0])
    assert 0.8 < low < 1.0 and 3.0 < high < 3.2
    assert axis_ends(Axis(from_zero=True), [1.0, 3.0])[0] == 0.0
    assert axis_ends(Axis(from_zero=True), [-1.0, 3.0])[0] < -1.0
    low, high = axis_ends(Axis(log=True), [0.0, 0.1, 10.0])
    assert 0.05 < low < 0.1 and 10 < high < 20
    for axis in (Axis(), Axis(log=True), Axis(from_zero=True)):
        for values in ([], [math.nan], [2.0], [2.0, 2.0]):
            low, high = axis_ends(axis, values)
            assert low < high and math.isfinite(high - low)


def test_numbers_as_they_are_written() -> None:
    assert tick_text(-0.5, Axis()) == "−0.5" and tick_text(0.025, Axis(percent=True)) == "2.5%"
    assert tick_text(1e-6, Axis(log=True)) == "10⁻⁶" and tick_text(100.0, Axis(log=True)) == "100"
