"""What every metric of one model must do; a new entry is tested for free."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from eigenforget.core.types import Batch, Outputs, Part, Score
from eigenforget.evaluation.metrics import METRICS, MetricContext, PanelMetric

CLASSES, WIDTH, GONE = 4, 6, (2,)
SIZES: dict[Part, int] = {"forget": 30, "retain": 90, "test_forget": 1000, "test_retain": 60}
"""1,000 held-out samples of the forgotten class: fewer leave no threshold at a false-positive rate
of 0.1 %.
"""
EVERY = pytest.mark.parametrize(
    "kind",
    [kind for kind in METRICS if issubclass(kind, PanelMetric)],
    ids=lambda kind: kind.__name__,
)
FOR_SAMPLES = {"ruler_m4"}
"""Metrics that say nothing where a class is gone as a whole."""
Rows = tuple[Part, Batch, Outputs]


def make(kind: type[PanelMetric]) -> PanelMetric:
    head = torch.eye(CLASSES, WIDTH) + 0.1 * torch.randn(
        CLASSES, WIDTH, generator=torch.Generator().manual_seed(9)
    )
    gone = () if kind.name in FOR_SAMPLES else GONE
    return kind.create(
        MetricContext(
            num_features=WIDTH, num_classes=CLASSES, forgotten_classes=gone, k=3, seed=0, head=head
        )
    )


def everything(seed: int = 0) -> list[Rows]:
    """Clustered features and matching logits for each part, in float32 as models give them."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for part, n in SIZES.items():
        labels = (
            torch.full((n,), 2)
            if part.endswith("forget")
            else torch.tensor([0, 1, 3]).repeat(n)[:n]
        )
        features = torch.eye(CLASSES, WIDTH)[labels] * 3 + torch.randn(n, WIDTH, generator=g)
        logits = features[:, :CLASSES] + 0.3 * torch.randn(n, CLASSES, generator=g)
        rows.append(
            (part, Batch(torch.zeros(n, 1), labels, torch.arange(n)), Outputs(logits, features))
        )
    return rows


def rows_at(row: Rows, which: torch.Tensor) -> Rows:
    part, batch, outputs = row
    return part, Batch(*(t[which] for t in batch)), Outputs(*(t[which] for t in outputs[:2]))


def fed(metric: PanelMetric, rows: list[Rows]) -> PanelMetric:
    for row in rows:
        metric.update(*row)
    return metric


def close(a: tuple[Score, ...], b: tuple[Score, ...]) -> bool:
    pairs = [
        (x, y)
        for s, t in zip(a, b, strict=True)
        for x, y in ((s.value, t.value), (s.low, t.low), (s.high, t.high))
    ]
    return all(
        (x is None) == (y is None) and (x is None or math.isclose(x, y, abs_tol=1e-10))
        for x, y in pairs
    )  # type: ignore[arg-type]


@EVERY
def test_scores_are_declared_and_in_range(kind: type[PanelMetric]) -> None:
    scores = fed(make(kind), everything()).scores()
    assert scores and len({s.name for s in scores}) == len(scores)
    for s in scores:
        assert s.value is not None, s.reason
        assert (
            s.unit
            and s.better in ("higher", "lower", "reference")
            and s.trace in ("above", "below", "both", "")
        )
        assert s.better != "reference" or s.trace, (
            f"{s.name}: on which side of the retrained models does a trace show?"
        )
        assert s.range[0] <= s.value <= s.range[1]
        if s.low is not None and s.high is not None:
            assert s.range[0] <= s.low <= s.value <= s.high <= s.range[1]


@EVERY
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_any_shuffle_of_any_sharding_gives_the_one_pass_result(
    kind: type[PanelMetric], shards: int
) -> None:
    whole = fed(make(kind), everything()).scores()
    g = torch.Generator().manual_seed(shards)
    pieces: list[Rows] = []
    for row in everything():
        pieces += [
            rows_at(row, part)
            for part in torch.randperm(SIZES[row[0]], generator=g).tensor_split(3)
        ]
    metrics = [make(kind) for _ in range(shards)]
    for i in torch.randperm(len(pieces), generator=g).tolist():
        metrics[i % shards].update(*pieces[i])
    total = metrics[0]
    for other in metrics[1:]:
        before = copy.deepcopy(other.metric_state)
        total.merge_state(other)
        assert str(other.metric_state) == str(before), "merging leaves the other side as it was"
    assert close(total.scores(), whole)


@EVERY
@pytest.mark.parametrize("missing", list(SIZES))
def test_what_cannot_be_measured_is_said_never_a_number(
    kind: type[PanelMetric], missing: Part
) -> None:
    full = {s.name: s for s in fed(make(kind), everything()).scores()}
    for score in fed(make(kind), [r for r in everything() if r[0] != missing]).scores():
        assert (score.value is None) == bool(score.reason)
        assert score.value is None or np.isfinite(score.value)
        assert score.name in full
    for score in make(kind).scores():
        assert score.value is None and score.reason


@EVERY
def test_parts_that_it_does_not_use_change_no_score(kind: type[PanelMetric]) -> None:
    metric = make(kind)
    used = [row for row in everything() if metric.uses(row[0])]
    assert used and fed(metric, used).scores() == fed(make(kind), everything()).scores()


@EVERY
def test_reset_and_no_change_of_inputs(kind: type[PanelMetric]) -> None:
    rows = everything()
    before = copy.deepcopy(rows)
    metric = fed(make(kind), rows)
    first = metric.scores()
    assert close(metric.scores(), first), "asking twice gives the same"
    for (_, batch, outputs), (_, old_batch, old_outputs) in zip(rows, before, strict=True):
        assert all(
            torch.equal(a, b)
            for a, b in zip((*batch, *outputs[:2]), (*old_batch, *old_outputs[:2]), strict=True)
        )
    metric.reset()
    assert close(fed(metric, rows).scores(), first)


@EVERY
def test_different_data_gives_different_scores(kind: type[PanelMetric]) -> None:
    as_values: Callable[[int], list[float | None]] = lambda seed: [
        s.value for s in fed(make(kind), everything(seed)).scores()
    ]
    assert as_values(0) != as_values(1)
