"""Settings and statements of the models of a report."""

from __future__ import annotations

from dataclasses import replace

from eigenforget.report.settings import settings, statements
from tests.report.verdict_toys import ORACLES


def test_settings_and_statements_say_which_models_they_hold_for() -> None:
    assert [(s.name, s.value, s.models) for s in settings(ORACLES, "job")] == [
        ("request", "by_class(label=3)", "all models"),
        ("method", "oracle_1()", "oracle_1"),
        ("method", "oracle_2()", "oracle_2"),
    ]
    own = replace(ORACLES[1], claims=("measured", "only here"))
    assert statements([ORACLES[0], own], "claims") == [
        ("measured", "all models"),
        ("only here", "oracle_2"),
    ]
