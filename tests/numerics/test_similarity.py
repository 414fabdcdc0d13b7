"""CKA and Procrustes against Gram matrices and scipy's rotation, invariances, shards, and features
without variance.
"""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.metrics.panel import MetricContext, no_samples
from eigenforget.evaluation.metrics.similarity import LinearCKA, Procrustes

KINDS = [LinearCKA, Procrustes]
LABELS = torch.zeros(0, dtype=torch.int64)


def measurement(width, forgotten=(1,)):
    return MetricContext(width, 3, forgotten, 2, 0)


def pair(n=60, d=5, e=7, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.linspace(0.2, 3, d) + 4
    return x, x @ rng.normal(size=(d, e)) * 0.7 + rng.normal(size=(n, e)) - 2


def slow_cka(x, y):
    """HSIC of the linear kernels, through [N, N] Gram matrices and the centring matrix."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n

    def hsic(a, b):
        return np.trace(a @ a.T @ centring @ b @ b.T @ centring) / (n - 1) ** 2

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def slow_procrustes(x, y):
    """1 − d²/2 with the distance left by scipy's best rotation of the unit-norm, zero-padded
    features.
    """
    width = max(x.shape[1], y.shape[1])
    padded = [np.pad(m - m.mean(0), ((0, 0), (0, width - m.shape[1]))) for m in (x, y)]
    a, b = (m / np.linalg.norm(m) for m in padded)
    rotation, _ = orthogonal_procrustes(a, b)
    return 1 - np.linalg.norm(a @ rotation - b) ** 2 / 2


def measured(kind, x, y, part="test_retain", forgotten=(1,)):
    metric = kind.create(measurement(x.shape[1], forgotten))
    metric.update(part, LABELS, torch.as_tensor(x), torch.as_tensor(y))
    forget, retain = metric.values().values()
    return retain if part == "test_retain" else forget


@pytest.mark.parametrize(
    ("n", "d", "e"), [(60, 5, 7), (60, 7, 5), (60, 6, 6), (12, 20, 30), (40, 1, 1)]
)
@pytest.mark.parametrize(("kind", "slow"), [(LinearCKA, slow_cka), (Procrustes, slow_procrustes)])
def test_value_is_the_definition_on_the_raw_features(kind, slow, n, d, e):
    x, y = pair(n, d, e, seed=n + d)
    assert measured(kind, x, y) == pytest.approx(slow(x, y), rel=1e-10)
    assert 0.001 < measured(kind, x, y) <= 1


def test_wide_features_take_the_small_side_and_keep_the_value():
    """24 rows in 80 and 90 dimensions: the rank of C_xy is far below its widths."""
    x, y = pair(24, 80, 90, seed=3)
    assert measured(Procrustes, x, y) == pytest.approx(slow_procrustes(x, y), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_rotations_scales_and_shifts_change_nothing_and_other_maps_do(kind):
    x, y = pair()
    value = measured(kind, x, y)
    q, p = ortho_group.rvs(5, random_state=0), ortho_group.rvs(7, random_state=1)
    assert measured(kind, 3 * x @ q + 50, 0.01 * y @ p - 8) == pytest.approx(value, rel=1e-9)
    assert measured(kind, y, x) == pytest.approx(value, rel=1e-10)
    assert abs(measured(kind, x * np.array([9, 1, 1, 1, 1]), y) - value) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_same_features_have_similarity_one(kind):
    x, _ = pair()
    rotated = x @ ortho_group.rvs(5, random_state=3)
    wide = np.hstack([x, np.zeros((60, 4))])
    for other in (x, 7 * rotated - 3, wide):
        assert measured(kind, x, other) == pytest.approx(1.0, abs=1e-12)
        assert measured(kind, x, other) <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_do_not_covary_have_similarity_zero(kind):
    t = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    x, y = np.stack([np.sin(t), np.cos(t)], 1), np.stack([np.sin(3 * t), np.cos(3 * t)], 1)
    assert measured(kind, x, y) == pytest.approx(0.0, abs=1e-12)


def test_closed_forms_of_two_shared_directions():
    t = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    waves = np.stack([np.sin(t), np.cos(t)], 1)
    a = 3.0  # x = (s, c), y = (a s, c): CKA = (a²+1)/√(2(a⁴+1)), Procrustes = (a+1)/√(2(a²+1))
    assert measured(LinearCKA, waves, waves * [a, 1]) == pytest.approx(
        (a**2 + 1) / np.sqrt(2 * (a**4 + 1)), rel=1e-12
    )
    assert measured(Procrustes, waves, waves * [a, 1]) == pytest.approx(
        (a + 1) / np.sqrt(2 * (a**2 + 1)), rel=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_shards_and_order_do_not_matter_and_a_merged_state_grows_on(kind):
    parts = {
        "test_forget": pair(seed=1),
        "test_retain": pair(90, seed=2),
        "forget": pair(30, seed=3),
    }
    whole, shards = kind(5, (1,)), [kind(5, (1,)) for _ in range(3)]
    for part, (x, y) in parts.items():
        whole.update(part, LABELS, torch.from_numpy(x), torch.from_numpy(y))
    for part, (x, y) in reversed(parts.items()):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(7))
        for i, rows in enumerate(order.split(8)):
            shards[(i * i) % 3].update(
                part, LABELS, torch.from_numpy(x)[rows], torch.from_numpy(y)[rows]
            )
    shards[2].merge_state(kind(5, (1,)))
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert shards[0].values() == pytest.approx(whole.values(), rel=1e-10)
    shards[0].update("test_retain", LABELS, *(torch.from_numpy(m) for m in pair(20, seed=9)))
    grown = np.concatenate([np.hstack(parts["test_retain"]), np.hstack(pair(20, seed=9))])
    slow = slow_cka if kind is LinearCKA else slow_procrustes
    assert list(shards[0].values().values())[1] == pytest.approx(
        slow(grown[:, :5], grown[:, 5:]), rel=1e-10
    )


def test_cka_follows_the_large_direction_and_procrustes_sees_the_small_ones():
    g = np.random.default_rng(0)
    shared, mine, other = (
        g.normal(size=(3, 400, 4)) * np.array([[10, 0, 0, 0]] + 2 * [[0, 2, 2, 2]])[:, None]
    )
    assert measured(LinearCKA, shared + mine, shared + other) > 0.98
    assert measured(Procrustes, shared + mine, shared + other) < 0.93


@pytest.mark.parametrize("kind", KINDS)
def test_each_request_has_its_own_forget_samples(kind):
    x, y = pair(seed=1)
    for part, forgotten in (("test_forget", (1,)), ("forget", ())):
        value = measured(kind, x, y, part, forgotten)
        assert isinstance(value, float)
        other = "forget" if part == "test_forget" else "test_forget"
        assert measured(kind, x, y, other, forgotten) == no_samples(part)
    assert isinstance(measured(kind, x[:9], y[:9]), str) and isinstance(
        measured(kind, x[:10], y[:10]), float
    )
    assert "retained classes" in kind(5, ()).values()[list(kind.kinds)[1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_collapsed_features_have_no_similarity_but_a_reason(kind, noise):
    x, y = pair()
    point = np.full_like(x, 0.1) + noise * np.random.default_rng(0).normal(size=x.shape)
    assert "features of this model do not vary over the 60 samples" in measured(kind, point, y)
    assert "features of the other model do not vary" in measured(kind, y, point)
    assert "do not vary" in measured(kind, 0 * x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_collapse_is_found_over_batches_too_and_small_features_are_not_collapsed(kind):
    metric = kind(5, ())
    for _ in range(5):
        metric.update("test_retain", LABELS, torch.full((7, 5), 0.1), torch.randn(7, 4))
    assert "do not vary over the 35 samples" in list(metric.values().values())[1]
    x, y = pair()
    assert measured(kind, 1e-12 * x, y) == pytest.approx(measured(kind, x, y), rel=1e-9)


def test_what_the_scores_declare():
    for kind in KINDS:
        assert kind.reads == "features" and kind.against == ("original", "oracle")
        assert [k.trace for k in kind.kinds.values()] == ["both", ""]
        assert {(k.unit, k.range, k.better) for k in kind.kinds.values()} == {
            ("1", (0.0, 1.0), "reference")
        }


@pytest.mark.parametrize(
    ("mine", "other", "message"),
    [
        (
            torch.zeros(3, 5),
            torch.full((3, 5), torch.nan),
            "part test_retain: the model's features are not finite",
        ),
        (
            torch.zeros(3, 4),
            torch.zeros(3, 5),
            r"part test_retain: features must be \[B, 5\], got \[3, 4\]",
        ),
        (torch.zeros(3, 5), torch.zeros(2, 5), "3 rows of features cannot be paired with 2"),
        (torch.zeros(3, 5), torch.zeros(3, 5, 2), r"must be \[B, D\]"),
    ],
)
def test_wrong_features_are_errors(mine, other, message):
    with pytest.raises(EigenforgetError, match=message):
        LinearCKA(5, ()).update("test_retain", LABELS, mine, other)
    with pytest.raises(EigenforgetError, match="cannot be merged"):
        metric = LinearCKA(5, ())
        metric.update("test_retain", LABELS, torch.zeros(3, 5), torch.zeros(3, 5))
        metric.update("test_retain", LABELS, torch.zeros(3, 5), torch.zeros(3, 6))
