"""Figures of an analysis, against the numbers of their records."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.record import RunRecord
from eigenforget.report.figures import analysis_figures as figures
from eigenforget.report.figures.analysis_series import INDICATORS, analysis_records
from tests.analysis_toys import case


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return case((0.0, 0.7), (0.0, 0.1))


def test_curves_draw_the_mean_and_the_range(records: list[RunRecord]) -> None:
    fig = figures.curves_figure(analysis_records(records))
    own = [r.series["analysis"]["late"]["curves"]["forget"] for r in records]
    choices = len(fig.choices)
    late = fig.plots[choices]  # the first choice of the second layer
    assert choices == 4 and (late.title, late.choice) == ("late", 0)
    mean = next(t for t in late.traces if t.name == "retrained" and t.kind == "line")
    np.testing.assert_allclose(mean.y, np.mean([c["frobenius_none"] for c in own[1:]], axis=0))
    area = next(t for t in late.traces if t.name == "retrained" and t.kind == "area")
    np.testing.assert_allclose(
        area.y[: len(mean.y)], np.max([c["frobenius_none"] for c in own[1:]], axis=0)
    )
    drawn = next(t for t in late.traces if t.name == "original")
    assert list(drawn.y) == own[0]["frobenius_none"]


def test_every_figure_has_a_sentence_on_its_numbers(records: list[RunRecord]) -> None:
    found = analysis_records(records)
    for chart in figures.ANALYSIS_CHARTS:
        assert chart.reading(records).endswith("."), chart.id
    gaps = {n: abs(found.contrast(n, "forget", INDICATORS["da"]).gap) for n in found.layers()}
    widest = max(gaps, key=gaps.__getitem__)
    value = found.contrast(widest, "forget", INDICATORS["da"])
    said = figures.ANALYSIS_CHARTS[1].reading(records)
    assert (
        f"At {widest}," in said and f"{value.original:.3f}" in said and f"{value.mean:.3f}" in said
    )
