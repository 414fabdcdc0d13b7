"""Series of a record as figures read them: values as given, and what is malformed named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures import series
from tests.report_toys import made


def record_with(**values: Any) -> RunRecord:
    return made("m", "unlearned", [], series=values)


def test_records_that_have_a_series() -> None:
    bare, full = record_with(trace=[]), record_with(trace=[{"loss": 1.0}])
    assert series.having([bare, full, record_with()], "trace") == [full]
    with pytest.raises(RecordError, match="'trace'"):
        series.having([bare], "trace")


def test_whole_numbers_sort_by_value_and_before_texts() -> None:
    assert sorted(["10", "all", "9", "-1", "b"], key=series.natural) == [
        "9",
        "10",
        "-1",
        "all",
        "b",
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(1, True), (0.5, True), (True, False), (None, False), ("1", False), (math.nan, False)],
)
def test_what_is_a_number(value: Any, wanted: bool) -> None:
    assert series.is_number(value) == wanted and not series.is_number(-math.inf)


def test_every_series_is_read_as_it_is_given() -> None:
    curve = {"k": [1, 2], "energy_each": [0.5, 1.0], "other": 3}
    assert series.read_da_curve(record_with(da_curve=curve)) == (
        [1, 2],
        {"energy_each": [0.5, 1.0]},
        None,
    )
    spectra = {"retain": [0.9, 0.1], "forget": [1.0]}
    assert series.read_spectrum(record_with(spectrum=spectra)) == ([0.9, 0.1], [1.0])
    found = series.read_trace(
        record_with(trace=[{"loss": 1, "da": 0.5}, {"loss": 0, "phase": "f"}])
    )
    assert found == [("training", 1.0, {"da": 0.5}), ("f", 0.0, {})]
    classes = {"label": [0, "b"], "test": [0.5, None]}
    assert series.read_class_accuracy(record_with(per_class=classes)) == {"0": 0.5, "b": None}
    points = {"x": [0.0], "y": [1.0], "label": [3], "id": ["a"], "forget": [1]}
    assert series.read_feature_map(record_with(umap=points), "umap") == (
        *([0.0], [1.0], ["3"], ["a"], [True]),
        None,
    )
    with pytest.raises(RecordError, match="'m': series pca needs a list 'explained'"):
        series.read_feature_map(record_with(pca=points), "pca")
    curves = {"steps": [0, 1], "curves": {"10": [0.0, 0.5]}}
    assert series.read_relearning(record_with(relearning=curves)) == ([0, 1], {"10": [0.0, 0.5]})
    roc = {
        "members": 2,
        "others": 3,
        "true": [0, 2],
        "false": [0, 3],
        "at": {"0.001": None, "0.01": None, "0.1": 0.5},
    }
    assert series.read_roc(record_with(mia_roc=roc)).rates == {0.1: 0.5}
    counts = {"counts": [[3, 0], [1, 2]]}
    assert series.read_confusion(record_with(confusion=counts)).forgotten == []
