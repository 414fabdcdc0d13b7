"""Confusion matrices as figures, against their counts."""

from __future__ import annotations

from typing import Any

import pytest

from eigenforget.record import RecordError
from eigenforget.report.figures.confusion_figures import confusion_figure
from tests.report_toys import CLASSES, GONE, further_series, made, whole


def test_confusion_rows_are_shares_of_their_class() -> None:
    records = whole()
    fig = confusion_figure(records)
    assert [a.text for a in fig.layout.annotations] == [
        f"<b>{n}</b>" for n in ("original", "oracle 1", "one", "two", "three", "four")
    ]
    counts = further_series(0)["confusion"]["counts"]
    for row in range(CLASSES):
        for column in range(CLASSES):
            assert fig.data[0].z[row][column] == pytest.approx(
                counts[row][column] / sum(counts[row]), abs=5e-5
            )
            assert fig.data[0].text[row][column] == counts[row][column]
    frames = [s for s in fig.layout.shapes if s.xref == "x"]
    assert [(s.x0, s.x1, s.y0, s.y1) for s in frames] == [
        (-0.5, CLASSES - 0.5, GONE - 0.5, GONE + 0.5)
    ]


def test_a_class_without_samples_and_a_head_with_more_outputs() -> None:
    matrix = {
        "counts": [[0, 0, 0], [1, 2, 1]]
    }  # as records were before forgotten classes were told
    fig = confusion_figure([made("m", "original", [], series={"confusion": matrix})])
    assert [list(row) for row in fig.data[0].z] == [
        [None] * 3,
        [0.25, 0.5, 0.25],
    ] and not fig.layout.shapes


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"counts": [[1, 2], [3]]}, "rows of the same length"),
        ({"counts": [[1, -2], [3, 4]]}, "whole numbers from 0"),
        ({"counts": [3]}, "rows of the same length"),
        ({"counts": [[]]}, "rows of the same length"),
        ({"counts": [[1]], "forgotten": [1]}, "numbers of classes, from 0 to 0"),
        ({}, "needs a list 'counts'"),
    ],
)
def test_malformed_confusion_matrices_are_named(bad: Any, words: str) -> None:
    with pytest.raises(
        RecordError,
        match=f"record 'm': series confusion .*{words}" if bad else "no record has the series",
    ):
        confusion_figure([made("m", "original", [], series={"confusion": bad})])
