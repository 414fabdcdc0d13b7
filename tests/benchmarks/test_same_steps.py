"""The comparison with other people's code: what can be held to without their code."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from eigenforget.core import spec
from eigenforget.methods import METHODS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import same_steps  # noqa: E402

PAGE = BENCHMARKS / "results" / "same_steps.md"


def test_the_page_has_the_present_comparisons() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    found = [(ours.strip("| `"), theirs.split(",")[0]) for ours, theirs, *_ in rows]
    assert found == [(check.ours, check.repository) for check in same_steps.CHECKS]


@pytest.mark.parametrize("check", same_steps.CHECKS, ids=lambda c: c.ours.partition("(")[0])
def test_its_methods_are_there(check: same_steps.Check) -> None:
    spec.parse(check.ours, METHODS, "method")


def test_a_difference_is_a_share_of_their_largest_move() -> None:
    start, ours, theirs = (torch.nn.Sequential(torch.nn.BatchNorm1d(2)) for _ in range(3))
    with torch.no_grad():
        theirs[0].weight[0] += 4
        ours[0].weight[0] += 3
        ours[0].bias[1] -= 2
        ours[0].running_mean[1] += 1
        theirs[0].running_mean[0] += 2
    assert same_steps.difference(ours, theirs, start) == (0.5, 1.0, 4.0)
    assert same_steps.shown(same_steps.Difference(0.0, float("nan"), 1.0)) == "0"


def test_code_that_asks_for_a_gpu_runs_in_order_on_the_processor() -> None:
    with same_steps.on_processor(), same_steps.in_order():
        values = torch.ones(3).cuda().to("cuda:0").to(torch.device("cuda"), torch.float64)
        assert torch.nn.Linear(2, 2).cuda().weight.device.type == values.device.type == "cpu"
        assert values.dtype == torch.float64
        assert torch.randperm(3).tolist() == [0, 1, 2]


def test_a_module_of_theirs_is_imported_without_what_it_lacks(tmp_path: Path) -> None:
    package = tmp_path / "unlearn"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError\n")
    (package / "one.py").write_text(
        "import no_such_library.part\nfrom utils import Meter\nfrom .two import TWO\n"
        "class One(no_such_library.Base):\n    pass\n"
    )
    (package / "two.py").write_text("TWO = 2\n")
    before = copy.copy(sys.modules)
    module = same_steps.imported(tmp_path, "unlearn.one", "utils")
    assert module.TWO == 2 and isinstance(module.One(), module.One)
    assert f"{module.Meter().value:.2f}" == ""
    assert dict(sys.modules) == before
