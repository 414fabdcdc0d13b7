"""The tuning search and the tug-of-war objective against what they are defined to be."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.evaluation.metrics import tug_of_war
from eigenforget.experiments.bench.tuning import field_of, search, with_fields
from eigenforget.methods import METHODS, MUDA, Finetune, HeadMask, Masked, RandomLabel
from eigenforget.methods.base import Method


def test_every_space_fits_its_method() -> None:
    spaces = {kind: kind.search_space for kind in METHODS.own if kind.role == "unlearned"}
    untuned = {kind.name for kind, space in spaces.items() if not space}
    assert untuned == {"retrain"}, "every method that has settings is tuned"
    for kind, space in spaces.items():
        for field, span in space.items():
            assert 0 < span.low < span.high
            for value in span:
                changed = with_fields(kind(), {field: value})
                assert field_of(changed, field) == value


def test_with_fields_reaches_into_nested_methods_and_changes_nothing_else() -> None:
    method = Masked(inner=RandomLabel(epochs=7), keep_top=0.3)
    changed = with_fields(method, {"inner.lr": 0.01})
    assert changed == Masked(inner=RandomLabel(epochs=7, lr=0.01), keep_top=0.3)
    assert method == Masked(inner=RandomLabel(epochs=7), keep_top=0.3)
    with pytest.raises(EigenforgetError, match="finetune has no field 'alpha'"):
        with_fields(Finetune(), {"alpha": 1.0})


def test_search_starts_with_the_defaults_finds_the_better_and_repeats() -> None:
    def value(method: Method) -> float:
        return -abs(np.log(method.lr / 0.02))  # type: ignore[attr-defined]

    found = search(Finetune(), value, trials=12, seed=0)
    assert len(found.trials) == 12 and found.trials[0]["spec"] == "finetune()"
    assert (
        value(found.best) == max(value(Finetune()), *(t["value"] for t in found.trials))
        or value(found.best) > -0.5
    )
    assert max(t["value"] for t in found.trials) == pytest.approx(value(found.best), abs=1e-5)
    assert found == search(Finetune(), value, trials=12, seed=0)
    assert found.trials != search(Finetune(), value, trials=12, seed=1).trials


def test_search_records_divergence_and_refusal() -> None:
    def diverges(method: Method) -> float:
        if method.forget_lr > 0.001:  # type: ignore[attr-defined]
            raise Diverged("training diverged")
        return 0.5

    found = search(MUDA(), diverges, trials=8, seed=0)
    assert found.trials[0] == {"spec": "muda()", "value": None, "reason": "training diverged"}
    assert any(t["value"] == 0.5 for t in found.trials) and found.best.forget_lr <= 0.001  # type: ignore[attr-defined]

    def refuses(method: Method) -> float:
        raise Refused("needs something")

    refused = search(Finetune(), refuses, trials=5, seed=0)
    assert (
        refused.best == Finetune()
        and len(refused.trials) == 1
        and refused.trials[0]["reason"] == "needs something"
    )
    assert search(HeadMask(), refuses, trials=5, seed=0).trials == (), "nothing to tune"


def test_tug_of_war_by_hand() -> None:
    oracle = {"forget_accuracy": 0.0, "retain_accuracy": 0.9, "test_retain_accuracy": 0.8}
    found = {"forget_accuracy": 0.1, "retain_accuracy": 0.95, "test_retain_accuracy": 0.6}
    assert tug_of_war(found, oracle) == pytest.approx(0.9 * 0.95 * 0.8)
    assert tug_of_war(oracle, oracle) == 1.0
