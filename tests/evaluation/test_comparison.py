"""`compare_seeds`: means and deviations over training seeds, beside bands, in markdown, LaTeX and SVG."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.comparison import compare_seeds
from eigenforget.evaluation.evaluate import Evaluation, evaluate
from tests import toys
from tests.evaluation.test_evaluate import QUICK
from tests.toys import ENGINE


@pytest.fixture(scope="module")
def found() -> list[Evaluation]:
    """One evaluation for each of two originals, beside the same oracles."""
    world = toys.world()
    forget, retain, test = toys.sides(by_class=True)
    return [
        evaluate(
            {"original": original, "copy": original, "again": world.oracles[0]},
            oracles={f"oracle {i}": model for i, model in enumerate(world.oracles)},
            forget=forget,
            retain=retain,
            test=test,
            skip=QUICK,
            engine=ENGINE,
        )
        for original in world.originals[:2]
    ]


def test_latex_has_means_and_deviations_and_marks_what_is_in_the_band(
    found: list[Evaluation],
) -> None:
    names = ["da", "test_forget_accuracy"]
    lines = compare_seeds(found).to_latex(names).splitlines()
    cells = {line.split(" & ")[0]: line.removesuffix(r" \\").split(" & ") for line in lines}
    values = [f["copy"]["da"].value for f in found]
    spread = rf"{statistics.fmean(values):.3f} \pm {statistics.stdev(values):.3f}"
    assert cells["copy"][1] in (f"${spread}$", rf"$\mathbf{{{spread}}}$")
    inside = all(f["again"]["da"].verdict == "in" for f in found)
    assert inside and cells["again"][1].startswith(r"$\mathbf{")
    assert "mathbf" not in cells["copy"][2]
    assert cells["original"][1] == f"${spread}$" and cells["copy"][-1] == "--"


def test_it_is_a_table_and_a_figure(found: list[Evaluation], tmp_path: Path) -> None:
    comparison = compare_seeds(found, title="Two seeds")
    assert "| `copy` |" in repr(comparison) and "| `again` |" in repr(comparison)
    path = comparison.figure(tmp_path / "figure.svg")
    assert path.read_text(encoding="utf-8") == comparison.to_svg()
    assert "Two seeds" in comparison.to_svg()


def test_what_cannot_be_compared_is_one_line(found: list[Evaluation]) -> None:
    with pytest.raises(EigenforgetError, match="needs a list of evaluations"):
        compare_seeds([])
    with pytest.raises(EigenforgetError, match="unknown score 'daa'"):
        compare_seeds(found).to_latex(["daa"])
    fewer = Evaluation({"original": found[1].measured["original"]}, found[1].records)
    with pytest.raises(EigenforgetError, match=r"evaluation 2 .* copy"):
        compare_seeds([found[0], fewer])
