"""Attack success: counts, intervals and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.audits import AttackSuccess
from eigenforget.evaluation.evidence import Evidence, PartOutputs


def evidence(logits: np.ndarray, target: int) -> Evidence:
    count = len(logits)
    rows = PartOutputs(logits, np.zeros((count, 2)), np.full(count, target), np.arange(count))
    return Evidence(nn.Identity(), {"test_trigger": rows}, logits.shape[1], ())


def test_attack_success_counts_and_has_wilsons_interval() -> None:
    logits = np.random.default_rng(3).normal(size=(57, 5))
    logits[:4] = 0.0  # the first of equal logits is the prediction
    (score,) = AttackSuccess()(evidence(logits, 2), seed=0)
    hits = sum(int(max(range(5), key=lambda c: row[c]) == 2) for row in logits)
    interval = binomtest(hits, 57).proportion_ci(0.95, method="wilson")
    assert (score.value, score.unit, score.better, score.trace, score.range) == (
        hits / 57,
        "share",
        "reference",
        "above",
        (0.0, 1.0),
    )
    assert score.low == pytest.approx(interval.low, abs=1e-12) and score.high == pytest.approx(
        interval.high, abs=1e-12
    )
    assert AttackSuccess()(evidence(np.zeros((4, 3)), 0), seed=0)[0].value == 1.0
    assert AttackSuccess()(evidence(np.zeros((4, 3)), 1), seed=0)[0].value == 0.0


def test_attack_success_needs_numbers() -> None:
    logits = np.zeros((4, 3))
    logits[1, 1] = np.nan
    with pytest.raises(EigenforgetError, match="part test_trigger: a logit is NaN"):
        AttackSuccess()(evidence(logits, 0), seed=0)
