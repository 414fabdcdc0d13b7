"""The script for a GPU runs in its small form on a processor, so that it cannot rot."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu


def test_further_steps_of_a_method_read_nothing_back() -> None:
    size, sides = gpu.SMALL, gpu.sides_of(gpu.SMALL, None)
    assert {gpu.waits_of_a_step(size, sides, method) for method in gpu.COUNTED[:2]} == {0}


def test_rates_and_a_study_have_a_row_for_each_form_and_step() -> None:
    size, sides = gpu.SMALL, gpu.sides_of(gpu.SMALL, None)
    assert len(list(gpu.rates(size, sides))) == 4
    steps = dict(gpu.study(size, sides))
    assert len(steps) == 1 + size.oracles + len(gpu.STUDIED) + 1 and min(steps.values()) > 0
