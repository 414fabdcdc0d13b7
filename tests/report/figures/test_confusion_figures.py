"""Confusion matrices as figures, against their counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigenforget.record import RecordError
from eigenforget.report.figures.confusion_figures import confusion_figure, confusion_reading
from tests.report_toys import CLASSES, GONE, further_series, made, whole


def test_confusion_rows_are_shares_of_their_class() -> None:
    records = whole()
    fig = confusion_figure(records)
    names = ("original", "one", "two", "three", "four", "mask", "oracle 1")
    assert [plot.title for plot in fig.plots] == list(names)
    counts = further_series(0)["confusion"]["counts"]
    cells = fig.plots[0].cells
    assert cells is not None
    for row in range(CLASSES):
        for column in range(CLASSES):
            share = counts[row][column] / sum(counts[row])
            assert cells.shades[row][column] == pytest.approx(share)
            assert cells.texts[row][column] == f"{100 * share:.0f}"
    (frame,) = fig.plots[0].shapes
    assert (frame.x, frame.y) == ((-0.5, CLASSES - 0.5), (GONE - 0.5, GONE + 0.5))
    most = int(np.argmax(further_series(1)["confusion"]["counts"][GONE]))
    assert f"oracle 1: class {most} (" in confusion_reading(records)


def test_a_class_without_samples_and_a_head_with_more_outputs() -> None:
    matrix = {
        "counts": [[0, 0, 0], [1, 2, 1]]
    }  # as records were before forgotten classes were told
    records = [made("m", "original", [], series={"confusion": matrix})]
    (plot,) = confusion_figure(records).plots
    assert plot.cells is not None and not plot.shapes
    assert [list(row) for row in plot.cells.shades] == [[None] * 3, [0.25, 0.5, 0.25]]
    assert confusion_reading(records) == ""


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
