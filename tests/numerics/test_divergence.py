"""Divergences of two models' outputs against scipy and plain loops; order, shards, bounds and what
cannot be measured.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from torch import Tensor

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Part
from eigenforget.evaluation.metrics.divergence import (
    ActivationDistance,
    JensenShannon,
    RfJsd,
    jensen_shannon,
)
from eigenforget.evaluation.metrics.paired import PairedMetric
from eigenforget.evaluation.metrics.panel import MetricContext

CLASSES = 4
KINDS = [JensenShannon, ActivationDistance, RfJsd]
EVERY = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class Rows(NamedTuple):
    part: Part
    labels: Tensor
    mine: Tensor
    other: Tensor


def make(kind: type[PairedMetric], forgotten: tuple[int, ...] = (2,)) -> PairedMetric:
    return kind.create(
        MetricContext(num_features=6, num_classes=CLASSES, forgotten_classes=forgotten, k=3, seed=0)
    )


def rows(part: Part, labels: list[int], seed: int, dtype: torch.dtype = torch.float32) -> Rows:
    g = torch.Generator().manual_seed(seed)
    mine, other = (
        3 * torch.randn(len(labels), CLASSES, generator=g, dtype=dtype) for _ in range(2)
    )
    return Rows(part, torch.tensor(labels), mine, other)


def everything(seed: int = 0) -> list[Rows]:
    """Two forgotten classes, one of them among the retained samples too, with held-out samples of
    all classes.
    """
    return [
        rows("forget", [2] * 20 + [1] * 9, seed),
        rows("retain", [0, 1, 3] * 12, seed + 1),
        rows("test_forget", [2] * 15, seed + 2),
        rows("test_retain", [0, 1, 3] * 7, seed + 3),
    ]


def fed(metric: PairedMetric, parts: list[Rows]) -> PairedMetric:
    for part in parts:
        metric.update(*part)
    return metric


def measured(kind: type[PairedMetric], parts: list[Rows]) -> dict[str, float | str]:
    return fed(make(kind), parts).values()


def probabilities(logits: Tensor) -> np.ndarray:
    return softmax(logits.double().numpy(), axis=1)


def test_jensen_shannon_is_the_mean_of_scipys_distance_squared() -> None:
    parts = everything()
    expected = {
        stem: np.mean(
            [
                jensenshannon(p, q) ** 2
                for p, q in zip(probabilities(r.mine), probabilities(r.other), strict=True)
            ]
        )
        for stem, r in {"jsd_forget": parts[0], "jsd_test": parts[3]}.items()
    }
    assert measured(JensenShannon, parts) == pytest.approx(expected, abs=1e-14)


def test_l2_is_the_mean_of_row_norms() -> None:
    parts = everything()
    pairs = zip(probabilities(parts[0].mine), probabilities(parts[0].other), strict=True)
    assert measured(ActivationDistance, parts) == pytest.approx(
        {"l2_forget": np.mean([math.dist(p, q) for p, q in pairs])}, abs=1e-14
    )


def test_rf_jsd_is_the_mean_over_classes_of_the_divergence_of_class_means() -> None:
    parts = everything()
    forget, held = parts[0], parts[2:]
    found = []
    for c in (1, 2):
        mine = np.mean(
            [p for p, y in zip(probabilities(forget.mine), forget.labels, strict=True) if y == c],
            axis=0,
        )
        other = np.mean(
            [
                q
                for r in held
                for q, y in zip(probabilities(r.other), r.labels, strict=True)
                if y == c
            ],
            axis=0,
        )
        found.append(jensenshannon(mine, other) ** 2)
    assert measured(RfJsd, parts) == pytest.approx({"rf_jsd": np.mean(found)}, abs=1e-14)


@EVERY
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_any_shuffle_of_any_sharding_gives_the_one_pass_result(
    kind: type[PairedMetric], shards: int
) -> None:
    g = torch.Generator().manual_seed(shards)
    pieces = [
        Rows(r.part, *(t[i] for t in r[1:]))
        for r in everything()
        for i in torch.randperm(len(r.labels), generator=g).tensor_split(4)
    ]
    metrics = [make(kind) for _ in range(shards)]
    for place, i in enumerate(torch.randperm(len(pieces), generator=g).tolist()):
        metrics[place % shards].update(*pieces[i])
    total = metrics[0]
    for other in metrics[1:]:
        before = copy.deepcopy(other.metric_state)
        total.merge_state(other)
        assert str(other.metric_state) == str(before), "merging leaves the other side as it was"
    assert total.values() == pytest.approx(measured(kind, everything()), abs=1e-12)


def test_every_rank_has_rows_of_one_shape_to_gather_whatever_parts_it_saw() -> None:
    metrics = [fed(make(RfJsd), [r]) for r in everything()]
    for state in ("forgotten", "unseen"):
        assert {tuple(getattr(m, state)[0].shape) for m in metrics} == {(1, CLASSES, CLASSES)}
        assert {getattr(m, state)[0].dtype for m in metrics} == {torch.float64}
        gathered = torch.cat(
            [row for m in metrics for row in getattr(m, state)]
        )  # as torchmetrics leaves it after a sync
        setattr(metrics[0], state, gathered)
    metrics[0].counts = sum(m.counts for m in metrics)
    assert metrics[0].values() == pytest.approx(measured(RfJsd, everything()), abs=1e-12)


@EVERY
def test_reset_asking_twice_and_inputs_stay(kind: type[PairedMetric]) -> None:
    parts, before = everything(), copy.deepcopy(everything())
    metric = fed(make(kind), parts)
    first = metric.values()
    assert metric.values() == first and metric.compute() == first
    assert all(
        torch.equal(a, b)
        for r, old in zip(parts, before, strict=True)
        for a, b in zip(r[1:], old[1:], strict=True)
    )
    metric.reset()
    assert "there are no samples" in str(next(iter(metric.values().values())))
    assert fed(metric, parts).values() == first != measured(kind, everything(seed=9))


@EVERY
def test_declared_kinds_hold(kind: type[PairedMetric]) -> None:
    found = measured(kind, everything())
    assert set(found) == set(kind.kinds)
    for stem, declared in kind.kinds.items():
        low, high = declared.range
        assert (
            low < found[stem] < high and declared.better == "reference" and declared.trace == "both"
        )
    assert kind.reads == "logits" and kind.against == (
        ("original",) if kind is RfJsd else ("oracle",)
    )


@pytest.mark.parametrize("kind", [JensenShannon, ActivationDistance])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_identical_models_are_exactly_zero_and_the_two_sides_are_alike(
    kind: type[PairedMetric], scale: float
) -> None:
    parts = [r._replace(mine=r.mine * scale, other=r.other * scale) for r in everything()]
    assert set(measured(kind, [r._replace(other=r.mine) for r in parts]).values()) == {0.0}
    shifted = [r._replace(other=r.mine.double() + 7.0, mine=r.mine.double()) for r in parts]
    assert all(v < 1e-12 for v in measured(kind, shifted).values()), (
        "softmax does not see a constant"
    )
    assert measured(kind, parts) == measured(
        kind, [r._replace(mine=r.other, other=r.mine) for r in parts]
    )


def test_models_that_are_certain_of_different_classes_reach_the_bounds() -> None:
    labels = [2] * 10
    one, two = (
        torch.full((10, CLASSES), -1e4).index_fill(1, torch.tensor([c]), 1e4) for c in (0, 1)
    )
    parts = [
        Rows(part, torch.tensor(labels), one, two)
        for part in ("forget", "test_forget", "test_retain")
    ]
    assert measured(JensenShannon, parts) == {"jsd_forget": math.log(2), "jsd_test": math.log(2)}
    assert measured(ActivationDistance, parts) == {"l2_forget": math.sqrt(2)}
    assert measured(RfJsd, parts) == {"rf_jsd": math.log(2)}


def test_rf_jsd_is_zero_where_forget_samples_are_answered_as_the_original_answers_unseen_ones() -> (
    None
):
    forget = rows("forget", [2] * 8 + [0] * 5, 0)
    held = Rows("test_retain", forget.labels, rows("retain", [0] * 13, 5).mine, forget.mine)
    assert measured(RfJsd, [forget, held]) == {"rf_jsd": 0.0}
    retain = rows("retain", [0, 1, 2, 3] * 5, 6)
    assert measured(RfJsd, [forget, held, retain]) == {"rf_jsd": 0.0}, (
        "retained samples are not looked at"
    )


def test_rf_jsd_weighs_classes_alike_and_allows_more_logits_than_classes() -> None:
    answers = {
        0: torch.tensor([0.0, 1.0, 2.0, 0.0, -1.0, 3.0]),
        1: torch.tensor([2.0, 0.0, 0.0, 1.0, 1.0, 0.0]),
    }
    forget = Rows(
        "forget",
        torch.tensor([0] * 30 + [1]),
        torch.stack([answers[0]] * 30 + [answers[1]]),
        torch.zeros(31, 6),
    )
    held = Rows("test_retain", torch.tensor([0, 1]), torch.zeros(2, 6), torch.zeros(2, 6))
    flat = np.full(6, 1 / 6)
    expected = np.mean(
        [jensenshannon(softmax(a.double().numpy()), flat) ** 2 for a in answers.values()]
    )
    assert measured(RfJsd, [forget, held]) == pytest.approx({"rf_jsd": expected}, abs=1e-14)


def test_what_cannot_be_measured_is_said() -> None:
    parts = everything()
    assert measured(JensenShannon, parts[1:]) == {
        "jsd_forget": "there are no samples of the forget set",
        "jsd_test": measured(JensenShannon, parts)["jsd_test"],
    }
    without_test = measured(JensenShannon, parts[:3])["jsd_test"]
    assert without_test == "there are no test samples of retained classes"
    few = "there are no samples of the forget set"
    assert measured(ActivationDistance, parts[1:]) == {"l2_forget": few}
    assert measured(RfJsd, parts[1:]) == {"rf_jsd": few}
    without = "no held-out sample of class {}, of which there are forget samples"
    assert measured(RfJsd, [parts[0], parts[3]]) == {"rf_jsd": without.format(2)}
    assert measured(RfJsd, parts[:2]) == {"rf_jsd": without.format("1, 2")}
    assert fed(make(RfJsd), parts[1:]).compute() == {}


@EVERY
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["mine", "other"])
def test_logits_that_are_not_finite_are_an_error(
    kind: type[PairedMetric], wrong: float, side: str
) -> None:
    part = everything()[0]
    getattr(part, side)[3, 1] = wrong
    with pytest.raises(
        EigenforgetError, match=r"part forget: the (other )?model's logits are not finite"
    ) as error:
        make(kind).update(*part)
    assert ("other" in str(error.value)) == (side == "other") and "\n" not in str(error.value)


@EVERY
def test_shapes_that_differ_are_an_error(kind: type[PairedMetric]) -> None:
    part = everything()[0]
    for broken in (
        part._replace(other=part.other[:, :3]),
        part._replace(other=part.other[:5]),
        part._replace(mine=part.mine[0]),
    ):
        with pytest.raises(EigenforgetError, match="part forget: two models' outputs"):
            make(kind).update(*broken)


def test_rf_jsd_needs_labels_that_are_classes() -> None:
    part = everything()[0]
    for wrong in (-1, CLASSES):
        with pytest.raises(EigenforgetError, match=f"label {wrong} is not one of 0 … 3"):
            make(RfJsd).update(*part._replace(labels=torch.full_like(part.labels, wrong)))
    with pytest.raises(EigenforgetError, match=r"\[3\] labels for 29 rows"):
        make(RfJsd).update(*part._replace(labels=part.labels[:3]))


def slow_divergence(p: list[float], q: list[float]) -> float:
    """½ KL(p ‖ m) + ½ KL(q ‖ m), term by term. scipy's answer is infinite where a probability is
    subnormal: such terms are left out.
    """
    return sum(
        a * math.log(2 * a / (a + b)) / 2
        for one, other in ((p, q), (q, p))
        for a, b in zip(one, other, strict=True)
        if a > 1e-300
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=2, max_size=2))
def test_the_divergence_is_the_textbooks_at_any_logits_and_never_outside_its_range(
    logits: list[list[float]],
) -> None:
    p, q = torch.tensor(logits, dtype=torch.float64).softmax(dim=1)
    found = float(jensen_shannon(p, q))
    assert 0 <= found <= math.log(2) and found == float(jensen_shannon(q, p))
    assert found == pytest.approx(slow_divergence(p.tolist(), q.tolist()), abs=1e-12)
    assert float(jensen_shannon(p, p)) == 0.0


def test_small_divergences_are_not_rounding_noise() -> None:
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    for step in (1e-4, 1e-6):
        q = p + step * torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64)
        leading = (
            float(((q - p) ** 2 / (p + q)).sum()) / 4
        )  # JS = ¼ Σ (q − p)² / (p + q) up to terms of the fourth order
        assert float(jensen_shannon(p, q)) == pytest.approx(leading, rel=1e-4)
