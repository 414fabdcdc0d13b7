"""The series of an analysis, read from records, and what counts as a difference."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import analysis_figures as figures
from eigenforget.report.figures.analysis_series import INDICATORS, analysis_records, contrast
from tests.analysis_toys import case


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return case((0.0, 0.7), (0.0, 0.1))


@pytest.mark.parametrize(
    ("original", "retrained", "toward", "says"),
    [
        (0.62, (0.97, 0.98, 0.96), 1, "nearer"),
        (0.97, (0.62, 0.63, 0.61), 1, "farther"),
        (2.0, (1.0, 1.1, 1.05), -1, "nearer"),
        (1.0, (2.0, 2.1, 2.05), -1, "farther"),
        (0.90, (0.97, 0.85, 0.99), 1, "same"),  # within the band
        (0.985, (0.998, 0.998, 0.998), 1, "same"),  # outside the band, by less than counts
        (0.62, (0.97,), 1, "nearer"),  # no band with one
        (0.96, (0.97,), 1, "same"),
    ],
)
def test_a_difference_is_one_beyond_the_band_and_large_enough(
    original: float, retrained: tuple[float, ...], toward: int, says: str
) -> None:
    found = contrast(original, retrained, toward=toward, span=(0.0, None))
    assert found.says == says and found.gap == pytest.approx(np.mean(retrained) - original)
    assert (found.band is None) == (len(retrained) == 1)


def test_the_page_reads_values_from_the_records(records: list[RunRecord]) -> None:
    found = analysis_records(records)
    assert found.layers() == ["early", "late"]
    for indicator in INDICATORS.values():
        value = found.contrast("late", "forget", indicator)
        own = [r.series["analysis"]["late"]["values"]["forget"][indicator.name] for r in records]
        assert value.original == own[0] and value.mean == pytest.approx(np.mean(own[1:]))
        # What lies in a direction of its own is the same in all samples, so centring takes it away.
        assert value.says == (
            "nearer"
            if indicator.name in ("da", "energy", "share", "neighbours", "class_mean")
            else value.says
        )


def test_errors_name_the_record(records: list[RunRecord]) -> None:
    with pytest.raises(
        RecordError,
        match="got 1 and 0",
    ):
        analysis_records(records[:1])
    with pytest.raises(RecordError, match=r"'oracle 1'.*layers"):
        analysis_records([*records[:1], replace(records[1], series={"analysis": {"other": {}}})])
    bad = replace(records[1], series=json.loads(json.dumps(records[1].series)))
    bad.series["analysis"]["late"]["curves"]["forget"]["k"] = ["x"]
    with pytest.raises(
        RecordError,
        match=r"'oracle 1'.*'late': curves\.forget\.k",
    ):
        figures.curves_figure(analysis_records([records[0], bad]))
