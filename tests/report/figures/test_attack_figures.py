"""The ROC of the membership attack, from a model's losses to the figure: scikit-learn's points, the
score's area, and log axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.metrics import roc_auc_score, roc_curve

from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics.membership import PopulationMIA
from eigenforget.evaluation.metrics.roc import MAX_CORNERS
from eigenforget.record import RecordError
from eigenforget.report.figures.attack_figures import roc_figure, roc_reading
from tests.report_toys import further_series, made


def attack(members: np.ndarray, others: np.ndarray) -> PopulationMIA:
    """The attack on samples of class 2, whose logits are these, and 0 for the other classes: the
    larger, the lower the loss.
    """
    metric = PopulationMIA(forgotten_classes=(2,))
    for part, values in (("forget", members), ("test_forget", others)):
        logits = torch.zeros(len(values), 3, dtype=torch.float64)
        logits[:, 2] = torch.from_numpy(values)
        labels, positions = torch.full((len(values),), 2), torch.arange(len(values))
        metric.update(part, Batch(None, labels, positions), Outputs(logits, logits))  # type: ignore[arg-type]
    return metric


def scores(seed: int, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """With ties within and between the sides."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0.6, 1, m), 1), np.round(rng.normal(0, 1, n), 1)


def drawn(series: dict[str, Any], name: str = "m") -> tuple[Any, Any, Any]:
    """The line, the marks, and the figure."""
    fig = roc_figure([made(name, "unlearned", [], series=series)])
    line, marks = (t for t in fig.plots[0].traces if t.name == name)
    return line, marks, fig


@pytest.mark.parametrize("seed", range(4))
def test_the_line_is_scikit_learns_without_what_has_no_logarithm(seed: int) -> None:
    members, others = scores(seed, 60, 150)
    line, _, fig = drawn(attack(members, others).series())
    y = np.r_[np.ones(60), np.zeros(150)]
    fpr, tpr, _ = roc_curve(y, np.r_[members, others], drop_intermediate=False)
    kept = (fpr > 0) & (tpr > 0)
    assert 0 < kept.sum() < len(fpr)
    np.testing.assert_allclose(
        np.stack([line.x, line.y]), np.stack([fpr[kept], tpr[kept]]), rtol=0, atol=1e-12
    )
    assert fig.plots[0].x.log and fig.plots[0].y.log


@pytest.mark.parametrize("seed", range(4))
def test_the_area_of_trapezoids_is_the_score(seed: int) -> None:
    members, others = scores(seed, 80, 120)
    metric = attack(members, others)
    series = metric.series()["mia_roc"]
    area = trapezoid(np.array(series["true"]) / 80, np.array(series["false"]) / 120)
    assert area == pytest.approx(
        roc_auc_score(np.r_[np.ones(80), np.zeros(120)], np.r_[members, others]), abs=1e-12
    )
    score = next(s for s in metric.scores() if s.name == "mia_auc")
    assert area == pytest.approx(score.value, abs=1e-9)


def test_marks_are_the_rates_of_the_scores_and_a_thinned_curve_keeps_them() -> None:
    rng = np.random.default_rng(5)
    members, others = rng.normal(1, 1, 900), rng.normal(0, 1, 2000)
    series = attack(members, others).series()
    assert len(series["mia_roc"]["true"]) <= MAX_CORNERS
    line, marks, fig = drawn(series)
    for fpr, tpr in zip(marks.x, marks.y, strict=True):
        # The largest threshold order that allows so many false alarms: all members above the next
        # lower other.
        allowed = np.sort(others)[::-1][math.floor(fpr * 2000)]
        assert tpr == pytest.approx((members > allowed).mean())
        assert any(
            y == pytest.approx(tpr) and x <= fpr + 1e-12
            for x, y in zip(line.x, line.y, strict=True)
        )
    assert list(marks.x) == [0.001, 0.01, 0.1]
    lines = [(s.x, s.text) for s in fig.plots[0].shapes]
    assert lines == [((r, r), t) for r, t in ((0.001, "0.1 %"), (0.01, "1 %"), (0.1, "10 %"))]


def test_few_samples_have_no_mark_where_no_false_alarm_is_allowed() -> None:
    members, others = scores(1, 40, 50)
    _, marks, fig = drawn(attack(members, others).series())
    assert list(marks.x) == [0.1] and [s.x[0] for s in fig.plots[0].shapes] == [0.1]


def test_guessing_is_the_diagonal() -> None:
    line, _, fig = drawn(further_series(0))
    guessing = fig.plots[0].traces[0]
    assert guessing.name == "guessing" and guessing.x == guessing.y == (1 / 1000, 1)
    assert (line.x[-1], line.y[-1]) == (1, 1)


def test_the_sentence_names_what_is_found_at_the_fewest_false_alarms() -> None:
    said = roc_reading([made("m", "unlearned", [], series=further_series(0))])
    assert "0.1 %" in said and "2.0% in m" in said
    few = attack(*scores(1, 40, 50)).series()
    assert "At 10 %" in roc_reading([made("m", "unlearned", [], series=few)])


def test_an_attack_that_does_not_apply_draws_nothing() -> None:
    assert attack(np.zeros(3), np.zeros(3)).series() == {"mia_roc": {}}
    with pytest.raises(RecordError, match="no record has the series 'mia_roc'"):
        roc_figure([made("m", "unlearned", [], series={"mia_roc": {}})])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": 0}, "whole numbers from 1 as 'members' and 'others'"),
        ({"others": True}, "whole numbers from 1 as 'members' and 'others'"),
        ({"true": [0, 41]}, "'false' where 2 are due"),
        ({"true": [0, 41], "false": [0, 5]}, "'true' that rise to at most 40"),
        ({"true": [3, 2], "false": [0, 5]}, "'true' that rise to at most 40"),
        ({"true": [0, 2], "false": [0, 0.5]}, "'false' that rise to at most 1000"),
        ({"at": {"0.01": 0.5}}, "a number or null for each of 0.001, 0.01, 0.1"),
        ({"at": [0.5]}, "a number or null for each of"),
    ],
)
def test_malformed_curves_are_named(change: dict[str, Any], words: str) -> None:
    series = {"mia_roc": {**further_series(0)["mia_roc"], **change}}
    with pytest.raises(RecordError, match=f"record 'm': series mia_roc .*{words}"):
        drawn(series)
