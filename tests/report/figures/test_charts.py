"""The figures of the report."""

from __future__ import annotations

from eigenforget.report.figures.charts import CHARTS
from tests.report_toys import whole


def test_every_chart_is_drawn_of_whole_records_and_has_its_own_name() -> None:
    records = whole()
    assert len({chart.id for chart in CHARTS}) == len({chart.title for chart in CHARTS})
    assert len(CHARTS) == 17 and all(chart.applies(records) for chart in CHARTS)
    for drawn in (chart.draw(records) for chart in CHARTS):
        assert drawn.reading.endswith("."), drawn.id
