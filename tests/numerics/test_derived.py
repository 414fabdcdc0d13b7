"""Scores derived from other scores: tug of war, its membership form and the Anamnesis index, by
hand and at their bounds.
"""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.bands import Band, verdict
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Score
from eigenforget.evaluation.metrics.derived import anamnesis_index, derived, tug_of_war

NAMES = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy", "mia_auc", "relearn_steps")
MODEL = dict(zip(NAMES, (0.1, 0.95, 0.6, 0.7, 3.0), strict=True))
ORACLES = [
    dict(zip(NAMES, row, strict=True))
    for row in ((0.0, 0.9, 0.8, 0.5, 5.0), (0.2, 1.0, 0.7, 0.4, 7.0))
]
SHARES = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def by_name(
    own: dict[str, float | None], oracles: list[dict[str, float | None]]
) -> dict[str, Score]:
    return {score.name: score for score in derived(own, oracles)}


def test_all_three_by_hand() -> None:
    found = by_name(MODEL, ORACLES)
    assert list(found) == ["tow", "tow_mia", "ain"]
    assert found["tow"].value == pytest.approx((0.9 * 0.95 * 0.8 + 0.9 * 0.95 * 0.9) / 2)
    assert found["tow_mia"].value == pytest.approx((0.8 * 0.95 * 0.8 + 0.7 * 0.95 * 0.9) / 2)
    assert found["ain"].value == pytest.approx(3 / 6)


def test_what_they_declare() -> None:
    found = by_name(MODEL, ORACLES)
    declared = {name: (s.unit, s.range, s.better, s.trace) for name, s in found.items()}
    tug = ("1", (0.0, 1.0), "higher", "both")
    assert declared == {
        "tow": tug,
        "tow_mia": tug,
        "ain": ("1", (0.0, math.inf), "reference", "below"),
    }
    missing = by_name({}, [])
    assert {name: (s.unit, s.range, s.better, s.trace) for name, s in missing.items()} == declared


def test_a_model_that_equals_the_oracles_scores_one() -> None:
    assert [s.value for s in derived(ORACLES[0], [ORACLES[0]] * 3)] == [1.0, 1.0, 1.0]


def test_a_low_tug_of_war_is_off_and_a_high_one_is_fine() -> None:
    tow = by_name(MODEL, ORACLES)["tow"]
    around = Band(0.95, 0.02, 3)
    assert [verdict(v, around, better=tow.better, trace=tow.trace) for v in (0.9, 0.94, 1.0)] == [
        "off",
        "in",
        "in",
    ]
    ain = by_name(MODEL, ORACLES)["ain"]
    verdicts = [
        verdict(v, Band(1.0, 0.2, 3), better=ain.better, trace=ain.trace) for v in (0.5, 1.1, 3.0)
    ]
    assert verdicts == ["residual", "in", "over-forgotten"]


@settings(max_examples=100, deadline=None)
@given(SHARES, st.lists(SHARES, min_size=1, max_size=4))
def test_bounds_order_and_symmetry(own: list[float], others: list[list[float]]) -> None:
    model, oracles = (
        dict(zip(NAMES, own, strict=False)),
        [dict(zip(NAMES, other, strict=False)) for other in others],
    )
    tow, tow_mia, ain = derived(model, oracles)
    assert tow.value is not None and 0 <= tow.value <= 1
    assert tow_mia.value is not None and 0 <= tow_mia.value <= 1
    assert ain.value is None
    assert derived(model, oracles[::-1])[:2] == (tow, tow_mia), (
        "the order of the oracles changes no bit"
    )
    assert tug_of_war(model, oracles[0]) == pytest.approx(tug_of_war(oracles[0], model))
    if all(other[i] != own[i] for other in others for i in (0, 1, 2)):
        assert tow.value < 1 or math.isclose(tow.value, 1)


def test_each_term_counts_in_its_own_score_only() -> None:
    for name, moved in {
        "forget_accuracy": {"tow"},
        "retain_accuracy": {"tow", "tow_mia"},
        "test_retain_accuracy": {"tow", "tow_mia"},
        "mia_auc": {"tow_mia"},
        "relearn_steps": {"ain"},
    }.items():
        other = by_name({**ORACLES[0], name: ORACLES[0][name] + 0.05}, ORACLES[:1])
        assert {score for score, s in other.items() if s.value != 1.0} == moved, name


@pytest.mark.parametrize("gone", [{"mia_auc": None}, {}])
def test_what_is_missing_is_named(gone: dict[str, None]) -> None:
    """Whether a score is not applicable or not there at all."""
    without = {name: value for name, value in MODEL.items() if name != "mia_auc"} | gone
    found = by_name(without, ORACLES)
    assert found["tow_mia"].value is None and found["tow_mia"].reason == "the model has no mia_auc"
    assert found["tow"].value is not None and found["ain"].value is not None
    lacking = {name: value for name, value in ORACLES[1].items() if name != "relearn_steps"}
    found = by_name(MODEL, [ORACLES[0], lacking])
    assert (
        found["ain"].reason == "retrained model 2 of 2 has no relearn_steps"
        and found["tow"].value is not None
    )
    assert re.fullmatch(
        "the model has no forget_accuracy, .*test_retain_accuracy",
        by_name({}, ORACLES)["tow"].reason,
    )


def test_without_a_retrained_model_there_is_nothing_to_derive() -> None:
    assert {(s.value, s.reason) for s in derived(MODEL, [])} == {
        (None, "there is no retrained model to compare with")
    }


def test_a_zero_is_a_value() -> None:
    zero = dict.fromkeys(NAMES[:4], 0.0) | {"relearn_steps": 1.0}
    assert [s.value for s in derived(zero, [zero])] == [1.0, 1.0, 1.0]
    opposite = dict.fromkeys(NAMES[:4], 1.0) | {"relearn_steps": 4.0}
    assert [s.value for s in derived(zero, [opposite])] == [0.0, 0.0, 0.25]


def test_anamnesis_index_needs_steps_that_count_from_one() -> None:
    assert (
        anamnesis_index({"relearn_steps": 12.0}, [{"relearn_steps": 6.0}, {"relearn_steps": 2.0}])
        == 3.0
    )
    with pytest.raises(EigenforgetError, match="counts from 1, got 0"):
        derived(MODEL, [{**ORACLES[0], "relearn_steps": 0.0}])
