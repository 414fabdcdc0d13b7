"""Where the forget set went, against the numbers of the records."""

from __future__ import annotations

from typing import Any

import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures.class_alignment_figures import (
    class_alignment_figure,
    class_alignment_reading,
    class_shares,
)
from tests.report_toys import made, whole


def one(name: str, role: Any, *energy: float | None, labels: list[Any] | None = None) -> RunRecord:
    shares = {"label": labels or list(range(len(energy))), "energy": list(energy), "k": 1}
    return made(name, role, [], series={"class_alignment": shares})


RECORDS = [
    one("original", "original", 0.1, 0.3, None),
    one("o1", "oracle", 0.2, 0.5, 0.1),
    one("o2", "oracle", 0.4, 0.7, 0.1),
    one("m", "unlearned", 0.35, 0.2, 0.0),
    one("cheat", "control", 0.1, 0.3, 0.0),
]


def test_classes_stand_in_the_order_of_the_retrained_models() -> None:
    found = class_shares(RECORDS)
    assert found.classes == ["1", "0", "2"] and found.mean("1") == pytest.approx(0.6)
    assert found.original == {"0": 0.1, "1": 0.3} and list(found.judged) == ["m", "cheat"]


def test_marks_and_bars_are_the_numbers() -> None:
    fig = class_alignment_figure(RECORDS)
    assert list(fig.choices) == ["m", "cheat"]
    for plot, name in zip(fig.plots, fig.choices, strict=True):
        marks = {t.name: t for t in plot.traces if t.listed}
        assert list(marks) == ["retrained models", "original", name]
        retrained = marks["retrained models"]
        assert list(retrained.x) == pytest.approx([0.6, 0.3, 0.1])
        assert (list(retrained.low), list(retrained.high)) == ([0.5, 0.2, 0.1], [0.7, 0.4, 0.1])
        assert list(marks["original"].x) == [0.3, 0.1]
        assert plot.y.ticks == {0: "class 1", 1: "class 0", 2: "class 2"}
    assert list(next(t for t in fig.plots[0].traces if t.name == "m").x) == [0.2, 0.35, 0.0]


def test_the_sentence_names_the_class_that_holds_most() -> None:
    said = class_alignment_reading(RECORDS)
    assert "along class 1: 0.600" in said and "0.300 in the original" in said
    assert "In m it lies mostly along class 0: 0.350" in said
    assert class_alignment_reading(whole()).endswith(".")


def test_of_many_classes_those_that_hold_most_are_shown() -> None:
    wide = [one("o", "oracle", *(i / 100 for i in range(50)))]
    assert class_shares(wide).classes == [str(c) for c in range(49, 37, -1)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"label": [0], "energy": [0.5, 0.5]}, "'energy' where 1 are due"),
        ({"label": [0], "energy": [1.5]}, "neither a share nor null"),
        ({"label": [0], "energy": ["x"]}, "neither a share nor null"),
        ({"energy": [0.5]}, "needs a list 'label'"),
    ],
)
def test_malformed_series_are_named(bad: Any, words: str) -> None:
    with pytest.raises(RecordError, match=f"'m': series class_alignment .*{words}"):
        class_alignment_figure([made("m", "unlearned", [], series={"class_alignment": bad})])
    with pytest.raises(RecordError, match="no record has the series"):
        class_alignment_figure([made("m", "unlearned", [])])
