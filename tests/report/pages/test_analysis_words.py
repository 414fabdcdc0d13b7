"""What an analysis says in words: only as far as the numbers go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eigenforget.record import RunRecord
from eigenforget.report.figures.analysis_series import analysis_records
from eigenforget.report.pages.analysis_words import AnalysisWords, analysis_words
from tests.analysis_toys import case


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return case((0.0, 0.7), (0.0, 0.1))


def said_of(records: Sequence[RunRecord]) -> AnalysisWords:
    return analysis_words(analysis_records(records))


def says(original: Any, retrained: Any, **more: Any) -> tuple[list[str], list[str]]:
    """What the findings say, and the layers that each sentence of the summary names."""
    said = said_of(case(original, retrained, **more))
    return [f.says for f in said.findings], list(said.summary)


def test_words_say_where_it_shows_most_and_where_not(records: list[RunRecord]) -> None:
    said = said_of(records)
    assert [(f.layer, f.says, f.tone) for f in said.findings] == [
        ("early", "same", ""),
        ("late", "nearer", "good"),
    ]
    assert "1 of 2" in said.summary[0] and "late" in said.summary[0]
    assert "early" not in said.summary[0] and "early" in said.summary[1]
    text = " ".join(said.findings[1].sentences)
    da = [r.series["analysis"]["late"]["values"]["forget"]["da"] for r in records]
    held_out = [r.series["analysis"]["late"]["values"]["test_forget"]["da"] for r in records]
    for values in (da, held_out):
        assert f"{values[0]:.3f}" in text and f"{np.mean(values[1:]):.3f}" in text
    assert said.findings[1].gap == pytest.approx(np.mean(da[1:]) - da[0])
    # CKA with the original, and among retrained models.
    assert "0.900" in text and "0.950" in text
    # The control is drawn alike in both, so nothing is said of it.
    control = [r.series["analysis"]["late"]["values"]["test_retain"]["da"] for r in records]
    assert f"{control[0]:.3f}" not in text


def test_no_difference_is_no_signal() -> None:
    found, summary = says((0.0, 0.05), (0.0, 0.05), drop="test_forget")
    assert found == ["same", "same"] and len(summary) == 2  # no signal; no class is gone as a whole
    with_classes = says((0.0, 0.05), (0.0, 0.05))[1]
    assert summary[0] == with_classes[0] and len(with_classes) == 1


def test_the_other_way_round_is_said_too() -> None:
    said = said_of(case((0.1, 0.1), (0.7, 0.1)))
    assert [(f.says, f.tone) for f in said.findings] == [("farther", "bad"), ("same", "")]
    assert "1 of 2" in said.summary[0] and "early" in said.summary[0]


def test_one_retrained_model_has_no_band() -> None:
    one = said_of(case((0.7,), (0.1,), oracles=1, names=("late",)))
    three = said_of(case((0.7,), (0.1,), oracles=3, names=("late",)))
    assert [f.says for f in one.findings] == [f.says for f in three.findings] == ["nearer"]
    assert len(one.summary) == len(three.summary) + 1
    assert "3 retrained models" in three.summary[0] and "3" not in one.summary[0]


def test_what_was_not_measured_has_its_reason(records: list[RunRecord]) -> None:
    changed = [replace(r, series=json.loads(json.dumps(r.series))) for r in records]
    for r in changed:
        r.series["analysis"]["late"]["values"]["forget"]["da"] = None
        r.series["analysis"]["late"]["reasons"]["da"] = "k = 9 is too large"
    finding = said_of(changed).findings[1]
    assert (finding.says, finding.sentences) == ("", ("K = 9 is too large.",))
