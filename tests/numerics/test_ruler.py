"""RULER's M2 and M4 against numpy loops, closed cases, shards, caps, zero vectors."""

import numpy as np
import pytest
import torch

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics import ruler
from eigenforget.evaluation.metrics.panel import MetricContext
from eigenforget.evaluation.metrics.ruler import (
    RulerM2,
    RulerM4,
    hashed,
    mid_ranks,
    nearest_cosines,
)

LABELS = torch.zeros(0, dtype=torch.int64)
WHAT = MetricContext(6, 3, (), 2, 5)


def rows(n, seed, width=6, shift=0.0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) + shift


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def m2(sides):
    metric = RulerM2.create(WHAT)
    for part, (mine, other) in sides.items():
        metric.update(part, LABELS, mine, other)
    return metric.values()["ruler_m2"]


def m4_metric(sides, seed=5):
    metric = RulerM4.create(WHAT._replace(seed=seed))
    for part, features in sides.items():
        feed(metric, part, features, torch.arange(len(features)))
    return metric


def feed(metric, part, features, positions):
    metric.update(
        part,
        Batch(None, torch.zeros_like(positions), positions),
        Outputs(torch.zeros(len(positions), 3), features[positions]),
    )


def slow_m4(forget, retain):
    """Loops over samples: nearest neighbours, then mid-ranks."""
    forget, retain = forget.double().numpy(), retain.double().numpy()
    forget, retain = forget - retain.mean(0), retain - retain.mean(0)
    null = [max(cosine(a, b) for j, b in enumerate(retain) if j != i) for i, a in enumerate(retain)]
    ranks = []
    for a in forget:
        nearest = max(cosine(a, b) for b in retain)
        below = sum(v < nearest - 1e-13 for v in null)
        equal = sum(abs(v - nearest) <= 1e-13 for v in null)
        ranks.append((below + equal / 2) / len(null))
    return np.mean(ranks)


def test_m2_is_mean_over_forget_minus_median_over_retain():
    sides = {
        "forget": (rows(31, 0), rows(31, 1)),
        "retain": (rows(80, 2), rows(80, 2) + rows(80, 3)),
    }
    forget, retain = (
        [cosine(a, b) for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)]
        for x, y in sides.values()
    )
    assert m2(sides) == pytest.approx(np.mean(forget) - np.median(retain), abs=1e-12)
    assert m2(
        sides | {"test_retain": (rows(9, 8), rows(9, 9)), "test_forget": (rows(9, 8), rows(9, 9))}
    ) == m2(sides)


def test_m2_is_zero_on_identical_models_and_reaches_its_bounds():
    x, y = rows(40, 0), rows(50, 1, shift=2.0)
    assert m2({"forget": (x, x), "retain": (y, y)}) == 0.0
    assert m2({"forget": (x, -x), "retain": (y, y)}) == -2.0
    assert m2({"forget": (x, x), "retain": (y, -y)}) == 2.0
    moved = m2({"forget": (x, x + rows(40, 7)), "retain": (y, y)})
    assert -1 < moved < -0.1  # forget samples off their place: the residual side
    assert m2({"forget": (1e-3 * x, x + rows(40, 7)), "retain": (1e18 * y, y)}) == pytest.approx(
        moved, abs=1e-6
    )


def test_m2_does_not_depend_on_order_or_shards():
    sides = {"forget": (rows(31, 0), rows(31, 1)), "retain": (rows(80, 2), rows(80, 3))}
    shards = [RulerM2.create(WHAT) for _ in range(3)]
    for part, (mine, other) in reversed(sides.items()):
        for i, chosen in enumerate(
            torch.randperm(len(mine), generator=torch.Generator().manual_seed(0)).split(5)
        ):
            shards[(i * i) % 3].update(part, LABELS, mine[chosen], other[chosen])
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert shards[0].values()["ruler_m2"] == pytest.approx(m2(sides), abs=1e-14)


def test_m2_says_why_there_is_no_number():
    x, y = rows(12, 0), rows(20, 1)
    assert m2({"forget": (x, x)}) == "there are no samples of the retain set"
    assert (
        m2({"test_retain": (x, x)})
        == "there are no samples of the forget set; there are no samples of the retain set"
    )
    assert (
        m2({}) == "there are no samples of the forget set; there are no samples of the retain set"
    )
    assert m2({"forget": (x, rows(12, 1, 7)), "retain": (y, rows(20, 1, 7))}).startswith(
        "features have width 6 here and 7"
    )
    dead = y.clone()
    dead[[3, 5]] = 0
    reason = "0 of 12 forget and 2 of 20 retain feature vectors are zero"
    assert m2({"forget": (x, x), "retain": (dead, y)}).startswith(reason)
    assert m2({"forget": (x, x), "retain": (y, dead)}).startswith(reason)
    assert m2({"forget": (0 * x, x), "retain": (dead, dead)}).startswith(
        "12 of 12 forget and 2 of 20"
    )


def test_m2_declares_a_residual_below():
    kind = RulerM2.kinds["ruler_m2"]
    assert (kind.unit, kind.range, kind.better, kind.trace) == (
        "1",
        (-2.0, 2.0),
        "reference",
        "below",
    )
    assert RulerM2.against == ("oracle",)
    with pytest.raises(EigenforgetError, match="part forget: the model's features are not finite"):
        m2({"forget": (rows(3, 0), torch.full((3, 6), torch.inf))})


@pytest.mark.parametrize("shift", [0.0, 0.7, -2.0])
def test_m4_is_the_loop_over_samples(shift):
    sides = {"forget": rows(25, 0, shift=shift), "retain": rows(70, 1, shift=0.7)}
    (score,) = m4_metric(sides | {"test_retain": rows(30, 2)}).scores()
    assert score.value == pytest.approx(slow_m4(*sides.values()), abs=1e-12)
    half = 1.959963984540054 / np.sqrt(12 * 25)
    assert (score.low, score.high) == pytest.approx(
        (max(score.value - half, 0), min(score.value + half, 1))
    )
    assert (score.unit, score.range, score.better, score.trace) == (
        "share",
        (0.0, 1.0),
        "reference",
        "above",
    )


def test_m4_is_a_half_for_exchangeable_samples_high_for_copies_and_low_far_away():
    retain = rows(600, 1, width=10)
    null = [
        m4_metric({"forget": rows(200, 100 + i, width=10), "retain": retain}).scores()[0]
        for i in range(20)
    ]
    assert np.mean([s.value for s in null]) == pytest.approx(0.5, abs=0.03)
    assert m4_metric({"forget": retain[:50], "retain": retain}).scores()[0].value == 1.0
    line = torch.cat([torch.linspace(-9, 9, 80)[:, None], rows(80, 2, width=2) / 100], dim=1)
    aside = torch.tensor([0.0, 9.0, 0.0]) + rows(20, 3, width=3) / 100
    assert m4_metric({"forget": aside, "retain": line}).scores()[0].value < 0.02


def test_m4_does_not_depend_on_scale_shift_or_rotation():
    sides = {"forget": rows(25, 0).double(), "retain": rows(70, 1).double() * 2}
    turn = torch.linalg.qr(rows(6, 9).double()).Q
    moved = {part: 0.01 * f @ turn + torch.arange(6) for part, f in sides.items()}
    assert m4_metric(moved).scores() == m4_metric(sides).scores()


def test_m4_is_for_single_samples():
    metric = RulerM4.create(WHAT._replace(forgotten_classes=(1,)))
    for part, features in {"forget": rows(25, 0), "retain": rows(70, 1)}.items():
        feed(metric, part, features, torch.arange(len(features)))
    (score,) = metric.scores()
    assert score.value is None and "class" in score.reason


def test_m4_gives_ties_the_mid_rank():
    direction = torch.tensor([0.3, 0.7, 0.2]) * torch.linspace(-9, 9, 40)[:, None]
    assert m4_metric({"forget": direction[:12] * 3, "retain": direction}).scores()[0].value == 0.5
    assert mid_ranks(
        np.array([0.5, 0.2, 0.1, 0.9]), among=np.array([0.5, 0.2, 0.5, 0.2])
    ).tolist() == [0.75, 0.25, 0.0, 1.0]


def test_nearest_cosines_over_several_blocks_are_those_of_the_whole_matrix():
    unit = torch.nn.functional.normalize(rows(1100, 3).double(), dim=1)
    cosines = (unit @ unit.T).numpy()
    assert np.allclose(
        nearest_cosines(unit[:700], among=unit[700:]), cosines[:700, 700:].max(1), atol=1e-14
    )
    np.fill_diagonal(cosines, -np.inf)
    assert np.allclose(
        nearest_cosines(unit, among=unit, leave_one_out=True), cosines.max(1), atol=1e-14
    )


@pytest.mark.parametrize("caps", [{"forget": 2000, "retain": 5000}, {"forget": 15, "retain": 40}])
def test_m4_does_not_depend_on_order_or_shards_bit_for_bit(monkeypatch, caps):
    monkeypatch.setattr(ruler, "CAPS", caps)
    sides = {"forget": rows(60, 0), "retain": rows(150, 1)}
    shards = [RulerM4.create(WHAT) for _ in range(3)]
    for part, features in reversed(sides.items()):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(4))
        for i, chosen in enumerate(order.split(7)):
            feed(shards[(i * i) % 3], part, features, chosen)
    assert all(sum(map(len, shard.retain_positions)) <= 2 * caps["retain"] for shard in shards)
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert shards[0].scores() == m4_metric(sides).scores()


def test_m4_beyond_the_caps_uses_the_smallest_hashes(monkeypatch):
    monkeypatch.setattr(ruler, "CAPS", {"forget": 15, "retain": 40})
    sides = {"forget": rows(60, 0), "retain": rows(150, 1)}
    chosen = {
        p: np.argsort(hashed(np.arange(len(f)), derive(5, "ruler_m4", p)))[: ruler.CAPS[p]]
        for p, f in sides.items()
    }
    score = m4_metric(sides).scores()[0]
    assert score.value == pytest.approx(
        slow_m4(*(f[chosen[p]] for p, f in sides.items())), abs=1e-12
    )
    assert score.high - score.low == pytest.approx(2 * 1.959963984540054 / np.sqrt(12 * 15))
    assert m4_metric(sides, seed=6).scores()[0].value != score.value


def test_hashes_are_distinct_and_spread_evenly():
    values = hashed(np.arange(100_000), seed=2**62 + 3)
    assert len(np.unique(values)) == 100_000
    assert np.histogram(values[:50_000] / 2.0**64, bins=10, range=(0, 1))[0] == pytest.approx(
        5000, abs=300
    )
    # SplitMix64's published first outputs from state 0.
    assert [int(v) for v in hashed(np.arange(2), seed=0)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
    ]


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        ({}, "there are no samples of the forget set"),
        ({"test_retain": rows(20, 0)}, "there are no samples of the forget set"),
        (
            {"forget": rows(9, 0), "retain": rows(20, 1)},
            "needs 10 samples of the forget set, got 9",
        ),
        (
            {"forget": rows(10, 0), "retain": rows(9, 1)},
            "needs 10 samples of the retain set, got 9",
        ),
        (
            {"forget": torch.zeros(12, 6), "retain": torch.cat([rows(9, 1), -rows(9, 1)])},
            "12 of 12 forget and 0 of 18 retain feature vectors are the mean",
        ),
        (
            {"forget": rows(12, 0), "retain": torch.full((20, 6), 0.1)},
            "constant",
        ),
    ],
)
def test_m4_says_why_there_is_no_number(sides, reason):
    (score,) = m4_metric(sides).scores()
    assert score.value is None and reason in score.reason
    assert (score.unit, score.trace) == ("share", "above")


def test_m4_errors_and_later_changes_of_the_features():
    with pytest.raises(EigenforgetError, match="part retain: the model's features are not finite"):
        m4_metric({"retain": torch.full((3, 6), torch.nan)})
    metric = m4_metric({"forget": rows(20, 0), "retain": rows(30, 1)})
    feed(metric, "retain", rows(30, 1), torch.tensor([4]))
    with pytest.raises(
        EigenforgetError, match="position 4 of part retain was given more than once"
    ):
        metric.scores()
    features = {"forget": rows(20, 0), "retain": rows(30, 1)}
    kept = m4_metric(features)
    before = kept.scores()
    for f in features.values():
        f.zero_()
    assert kept.scores() == before
