"""A chart of a page: when it applies, what it says where it does not, and how it is drawn."""

from __future__ import annotations

import re

import pytest

from eigenforget.record import RecordError
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.overview import da_figure, has_scores, scores_figure
from tests.report_toys import made, whole

BY_SERIES = Chart(
    "a", da_figure, "Title", "Caption", lambda _: "Read.", series="da_curve", hint="A hint."
)
BY_SCORES = Chart("b", scores_figure, "Scores", "Caption", lambda _: "", takes=has_scores)


def test_it_applies_where_its_series_or_scores_are() -> None:
    records, bare = whole(), [made("m", "original", [])]
    assert BY_SERIES.applies(records) and BY_SCORES.applies(records)
    assert not BY_SERIES.applies(bare) and not BY_SCORES.applies(bare)
    assert "Title" in BY_SERIES.absence() and "da_curve" in BY_SERIES.absence()
    assert BY_SERIES.absence().endswith("A hint.") and "Scores" in BY_SCORES.absence()
    with pytest.raises(RecordError, match="da_curve"):
        BY_SERIES.draw(bare)


def test_it_is_drawn_with_its_description_and_choices() -> None:
    records = [*whole(), made("without", "unlearned", [])]
    drawn = BY_SERIES.draw(records)
    assert drawn.html.count('<svg viewBox="0 0 400') == len(drawn.choices) == 2
    assert drawn.reading == "Read."
    alt = re.findall('role="img" aria-label="([^"]*)"', drawn.html)[0]
    # Only the models that have the series are named.
    assert "Title" in alt and "oracle 1" in alt and "without" not in alt
