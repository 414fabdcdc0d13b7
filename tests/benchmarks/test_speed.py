"""The benchmark of speed runs in a small form; no test depends on how fast anything is."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import speed  # noqa: E402


def test_each_part_runs_in_a_small_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SHORT", 0.0)
    found = [
        *speed.of_records(tmp_path, 3, 1),
        speed.of_alignment(4, 1, samples=40),
        speed.of_oracles(2, 1),
        speed.of_joined(1, samples=40, batch_size=8),
        *speed.of_fisher(1, nets=speed.NETS[:1], samples=4),
        *speed.of_evaluation(
            1,
            speed.DIGITS._replace(epochs=1, model="small_resnet(width=2)"),
            fitted=speed.FITTED[:2],
            whole=False,
        ),
        *speed.of_training(1, nets=[speed.NETS[0]._replace(steps=10)]),
    ]
    assert all(len(row.a) == 1 and row.value > 0 for row in found)


def test_a_row_says_medians_extremes_and_whether_the_bound_holds() -> None:
    row = speed.Bound("x ÷ y", [3.0, 1.0, 2.0], [1.0, 1.0, 4.0], 1.5)
    assert row.value == 2 and "2 s (1 … 3)" in row.cells() and row.cells().endswith("**no**")
    alone = speed.Bound("x", [1.0], (), 1.5)
    assert alone.value == 1 and alone.cells().endswith("≤ 1.5 s | yes")
    assert alone._replace(most=math.inf).cells().endswith("1 s | – | –")


@pytest.mark.parametrize(("each", "count"), [(0.1, 10), (1.0, 5), (4.0, 2)])
def test_short_sides_take_more_turns(each: float, count: int) -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return each

    a, b = speed.turns(lambda: side("a"), lambda: side("b"), 2)
    assert len(a) == len(b) == count and order == ["a", "b"] * count
