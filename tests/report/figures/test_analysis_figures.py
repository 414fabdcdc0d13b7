"""Figures of an analysis, against the numbers of their records."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.record import RunRecord
from eigenforget.report.figures import analysis_figures as figures
from eigenforget.report.figures.analysis_series import analysis_records
from tests.analysis_toys import case


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return case((0.0, 0.7), (0.0, 0.1))


def test_curves_draw_the_mean_and_the_range(records: list[RunRecord]) -> None:
    fig = figures.curves_figure(analysis_records(records))
    own = [r.series["analysis"]["late"]["curves"]["forget"] for r in records]
    mine = [t for t in fig.data if t.xaxis == "x2" and t.visible]
    mean = next(t for t in mine if t.name == "retrained" and t.line.width == 2)
    np.testing.assert_allclose(mean.y, np.mean([c["frobenius_none"] for c in own[1:]], axis=0))
    area = next(t for t in mine if t.name == "retrained" and t.fill == "toself")
    np.testing.assert_allclose(
        area.y[: len(mean.y)], np.max([c["frobenius_none"] for c in own[1:]], axis=0)
    )
    assert list(next(t for t in mine if t.name == "original").y) == own[0]["frobenius_none"]
    choices = fig.layout.meta["choices"]
    assert len(choices) == 4 and not fig.layout.updatemenus
    for number, choice in enumerate(choices):
        assert len(choice["visible"]) == len(fig.data)
        assert number > 0 or [t.visible for t in fig.data] == choice["visible"]
    assert all(sum(c["visible"][i] for c in choices) == 1 for i in range(len(fig.data)))
