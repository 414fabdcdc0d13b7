"""What every metric that compares two models must do; a new entry is tested for free."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from eigenforget.core.types import Part
from eigenforget.evaluation.metrics import METRICS, MetricContext, PairedMetric

CLASSES, WIDTH, GONE = 4, 6, (2,)
SIZES: dict[Part, int] = {"forget": 30, "retain": 90, "test_forget": 25, "test_retain": 60}
COMPARISONS = [kind for kind in METRICS if issubclass(kind, PairedMetric)]
EVERY = pytest.mark.parametrize("kind", COMPARISONS, ids=lambda kind: kind.__name__)
WITH_ITSELF = {
    "jsd_forget": 0.0,
    "jsd_test": 0.0,
    "l2_forget": 0.0,
    "ruler_m2": 0.0,
    "cka_forget": 1.0,
    "cka_retain": 1.0,
    "procrustes_forget": 1.0,
    "procrustes_retain": 1.0,
    "rf_jsd": None,
}
"""What a model compared with itself gives. None: that depends on the model, as other samples are on
the other side.
"""

Rows = tuple[Part, torch.Tensor, torch.Tensor, torch.Tensor]
Values = dict[str, float | str]


def make(kind: type[PairedMetric]) -> PairedMetric:
    return kind.create(
        MetricContext(num_features=WIDTH, num_classes=CLASSES, forgotten_classes=GONE, k=3, seed=0)
    )


def everything(kind: type[PairedMetric], seed: int = 0) -> list[Rows]:
    """(part, labels, mine, other): what the metric reads of two models on the same samples, in
    float32 as models give it.
    """
    g = torch.Generator().manual_seed(seed)
    rows = []
    for part, n in SIZES.items():
        labels = (
            torch.full((n,), 2)
            if part.endswith("forget")
            else torch.tensor([0, 1, 3]).repeat(n)[:n]
        )
        clusters = torch.eye(CLASSES, WIDTH if kind.reads == "features" else CLASSES)[labels] * 3
        mine, other = (clusters + torch.randn(clusters.shape, generator=g) for _ in range(2))
        rows.append((part, labels, mine, other))
    return rows


def fed(metric: PairedMetric, rows: list[Rows]) -> PairedMetric:
    for row in rows:
        metric.update(*row)
    return metric


def close(a: Values, b: Values) -> bool:
    """Equal reasons, numbers equal to 1e-10."""

    def same(x: float | str, y: float | str) -> bool:
        return (
            x == y
            if isinstance(x, str) or isinstance(y, str)
            else math.isclose(x, y, abs_tol=1e-10)
        )

    return list(a) == list(b) and all(same(a[stem], b[stem]) for stem in a)


@EVERY
def test_parts_that_it_does_not_use_change_no_value(kind: type[PairedMetric]) -> None:
    metric = make(kind)
    used = [row for row in everything(kind) if metric.uses(row[0])]
    assert used and fed(metric, used).values() == fed(make(kind), everything(kind)).values()


@EVERY
def test_kinds_are_declared_and_values_are_in_range(kind: type[PairedMetric]) -> None:
    assert (
        kind.reads in ("logits", "features")
        and kind.against
        and set(kind.against) <= {"original", "oracle"}
    )
    values = fed(make(kind), everything(kind)).values()
    assert list(values) == list(kind.kinds)
    for stem, value in values.items():
        declared = kind.kinds[stem]
        assert declared.unit and declared.better in ("higher", "lower", "reference")
        assert declared.trace in ("above", "below", "both", "") and declared.to_original in (
            "above",
            "below",
            "both",
            "",
            None,
        )
        assert not isinstance(value, str), value
        assert declared.range[0] <= value <= declared.range[1]


@EVERY
def test_names_are_of_one_comparison_only(kind: type[PairedMetric]) -> None:
    others = [stem for other in COMPARISONS if other is not kind for stem in other.kinds]
    assert not set(kind.kinds) & set(others) and not any(
        stem.endswith(("_oracle", "_original")) for stem in kind.kinds
    )


@EVERY
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_a_model_compared_with_itself(kind: type[PairedMetric], scale: float) -> None:
    rows = [
        (part, labels, scale * mine, scale * mine.clone())
        for part, labels, mine, _ in everything(kind)
    ]
    for stem, value in fed(make(kind), rows).values().items():
        assert not isinstance(value, str), value
        expected = WITH_ITSELF[stem]
        if expected is None:
            assert kind.kinds[stem].range[0] <= value <= kind.kinds[stem].range[1]
        elif expected == 0.0:
            assert value == 0.0, "models that answer alike are no distance apart, not nearly none"
        else:
            assert value == pytest.approx(expected, abs=1e-12)


@EVERY
def test_other_models_lie_further_away(kind: type[PairedMetric]) -> None:
    values = fed(make(kind), everything(kind)).values()
    for stem, same in WITH_ITSELF.items():
        if stem in values and same is not None:
            assert abs(float(values[stem]) - same) > 1e-3
    assert values != fed(make(kind), everything(kind, seed=1)).values()


@EVERY
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_any_shuffle_of_any_sharding_gives_the_one_pass_result(
    kind: type[PairedMetric], shards: int
) -> None:
    whole = fed(make(kind), everything(kind)).values()
    g = torch.Generator().manual_seed(shards)
    pieces: list[Rows] = []
    for part, *columns in everything(kind):
        for rows in torch.randperm(SIZES[part], generator=g).tensor_split(3):
            pieces.append((part, *(column[rows] for column in columns)))  # type: ignore[arg-type]
    metrics = [make(kind) for _ in range(shards)]
    for i in torch.randperm(len(pieces), generator=g).tolist():
        metrics[i % shards].update(*pieces[i])
    total = metrics[0]
    for other in metrics[1:]:
        before = copy.deepcopy(other.metric_state)
        total.merge_state(other)
        assert str(other.metric_state) == str(before), "merging leaves the other side as it was"
    assert close(total.values(), whole)


@EVERY
@pytest.mark.parametrize("missing", list(SIZES))
def test_what_cannot_be_measured_is_said_never_a_number(
    kind: type[PairedMetric], missing: Part
) -> None:
    whole = fed(make(kind), everything(kind)).values()
    for stem, value in (
        fed(make(kind), [row for row in everything(kind) if row[0] != missing]).values().items()
    ):
        if isinstance(value, str):
            assert value and "\n" not in value
        else:
            assert math.isfinite(value)
            assert stem == "rf_jsd" or math.isclose(value, float(whole[stem]), abs_tol=1e-10), (
                "a part that is not read moves nothing"
            )
    nothing = make(kind).values()
    assert list(nothing) == list(kind.kinds) and all(
        isinstance(v, str) and v for v in nothing.values()
    )


@EVERY
def test_each_value_needs_some_part(kind: type[PairedMetric]) -> None:
    told: set[str] = set()
    for part in SIZES:
        values = fed(make(kind), [row for row in everything(kind) if row[0] != part]).values()
        told |= {stem for stem, value in values.items() if isinstance(value, str)}
    assert told == set(kind.kinds)


@EVERY
def test_reset_asking_twice_and_no_change_of_inputs(kind: type[PairedMetric]) -> None:
    rows = everything(kind)
    before = copy.deepcopy(rows)
    metric = fed(make(kind), rows)
    first = metric.values()
    assert metric.values() == first, "asking twice gives the same"
    assert metric.compute() == {stem: v for stem, v in first.items() if not isinstance(v, str)}
    assert all(
        torch.equal(a, b)
        for new, old in zip(rows, before, strict=True)
        for a, b in zip(new[1:], old[1:], strict=True)
    )
    metric.reset()
    assert all(isinstance(v, str) for v in metric.values().values()), (
        "nothing is left of what was seen"
    )
    assert fed(metric, rows).values() == first
