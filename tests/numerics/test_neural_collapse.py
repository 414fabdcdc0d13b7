"""Neural collapse against explicit loops and numpy's pseudo-inverse, the exact frame, shards,
degenerate classes.
"""

import math

import numpy as np
import pytest
import torch

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics.neural_collapse import (
    NeuralCollapse,
    class_moments,
    frame_distance,
    merge_classes,
)
from eigenforget.evaluation.metrics.panel import MetricContext

WIDTH, CLASSES = 8, 5


def samples(n=200, classes=(0, 2, 3, 4), seed=0, shift=3.0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(99))
    labels = torch.tensor(classes)[
        torch.randint(len(classes), (n,), generator=g) ** 2 % len(classes)
    ]
    labels[: 3 * len(classes)] = torch.tensor(classes).repeat(3)
    return centres[labels] + 0.4 * torch.randn(n, WIDTH, generator=g) + shift, labels


def head(seed=7, classes=CLASSES, width=WIDTH):
    return torch.randn(classes, width, generator=torch.Generator().manual_seed(seed))


def feed(metric, features, labels, part="retain"):
    metric.update(
        part,
        Batch(None, labels, torch.arange(len(labels))),
        Outputs(torch.zeros(len(labels), CLASSES), features),
    )


def scores(features, labels, weight=None, classes=CLASSES):
    metric = NeuralCollapse.create(MetricContext(features.shape[1], classes, (1,), 4, 0, weight))
    feed(metric, features, labels)
    return metric.scores()


def values(*args, **kwargs):
    return [s.value for s in scores(*args, **kwargs)]


def slow(features, labels, weight):
    """The three definitions, sample by sample and entry by entry."""
    features, labels, weight = features.double().numpy(), labels.numpy(), weight.double().numpy()
    classes = sorted(set(labels))
    k, d = len(classes), features.shape[1]
    means = [
        np.mean([f for f, y in zip(features, labels, strict=True) if y == c], axis=0)
        for c in classes
    ]
    grand = sum(means) / k
    within, between = np.zeros((d, d)), np.zeros((d, d))
    for f, y in zip(features, labels, strict=True):
        gap = f - means[classes.index(y)]
        within += np.outer(gap, gap) / len(labels)
    for m in means:
        between += np.outer(m - grand, m - grand) / k
    nc1 = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / k

    def distance(left):
        gram = np.array([[np.dot(a, m - grand) for m in means] for a in left])
        total = math.sqrt((gram**2).sum())
        frame = [[((i == j) - 1 / k) / math.sqrt(k - 1) for j in range(k)] for i in range(k)]
        return math.sqrt(
            sum((gram[i, j] / total - frame[i][j]) ** 2 for i in range(k) for j in range(k))
        )

    return [nc1, distance([m - grand for m in means]), distance([weight[c] for c in classes])]


@pytest.mark.parametrize("classes", [(0, 2, 3, 4), (0, 1, 2, 3, 4), (1, 2, 4)])
def test_values_are_those_of_the_loops(classes):
    features, labels = samples(classes=classes, seed=len(classes))
    found = values(features, labels, head())
    assert found == pytest.approx(slow(features, labels, head()), rel=1e-9)
    assert all(v > 0.01 for v in found)


def test_more_classes_than_dimensions():
    features, labels = samples(classes=(0, 1, 2, 3, 4))
    narrow, weight = features[:, :3], head(width=3)
    assert values(narrow, labels, weight) == pytest.approx(slow(narrow, labels, weight), rel=1e-9)


def test_a_collapsed_simplex_frame_scores_zero_three_times():
    k = 4
    frame = torch.eye(k, dtype=torch.float64) - 1 / k
    rotation, _ = torch.linalg.qr(
        torch.randn(6, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    means = frame @ rotation.T
    labels = torch.arange(40) % k
    found = values(5 * means[labels] + 2, labels, 0.3 * means, classes=k)
    assert found == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    exact = torch.eye(k)[labels]  # entries that floats hold: every step is exact
    assert values(exact, labels, torch.eye(k) - 1 / k, classes=k)[0] == 0.0
    spun = scores(5 * means[labels] + 2, labels, -0.3 * means, classes=k)[2]
    assert spun.value == pytest.approx(2.0, abs=1e-12) and spun.value <= 2.0


def test_nc1_scales_with_the_square_of_the_spread_and_nothing_moves_with_shift_rotation_or_scale():
    features, labels = samples()
    noise = (
        features.double()
        - torch.stack([features.double()[labels == c].mean(0) for c in range(CLASSES)])[
            labels
        ].nan_to_num()
    )
    base = features.double() - noise
    one, three = values(base + noise, labels)[0], values(base + 3 * noise, labels)[0]
    assert three == pytest.approx(9 * one, rel=1e-9)
    rotation, _ = torch.linalg.qr(
        torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    moved = 7 * features.double() @ rotation - 5
    assert values(moved, labels, head().double() @ rotation) == pytest.approx(
        values(features, labels, head()), rel=1e-9
    )


def test_frame_distance_of_the_frame_itself_and_of_its_opposite():
    frame = np.eye(3) - 1 / 3
    assert frame_distance(4 * frame) == pytest.approx(0.0, abs=1e-15)
    assert frame_distance(-frame) == pytest.approx(2.0, abs=1e-15)
    assert frame_distance(np.ones((3, 3))) == pytest.approx(math.sqrt(2))


def test_shuffles_batches_and_shards_give_the_one_pass_result():
    features, labels = samples(300)
    shards = [NeuralCollapse(WIDTH, CLASSES, head()) for _ in range(3)]
    order = torch.randperm(300, generator=torch.Generator().manual_seed(4))
    for i, rows in enumerate(order.split(7)):
        feed(shards[(i * i) % 3], features[rows], labels[rows])
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert [s.value for s in shards[0].scores()] == pytest.approx(
        values(features, labels, head()), rel=1e-10
    )


def test_merging_changes_neither_side_and_is_the_one_pass_moment():
    features, labels = samples(90, shift=1e4)
    features = features.double()
    a, b = (
        class_moments(features[i], labels[i], num_classes=CLASSES)
        for i in (slice(0, 20), slice(20, None))
    )
    before = [t.clone() for t in (*a, *b)]
    both, whole = merge_classes(a, b), class_moments(features, labels, num_classes=CLASSES)
    for found, expected in zip(both, whole, strict=True):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-6)
    assert all(torch.equal(x, y) for x, y in zip((*a, *b), before, strict=True))


def test_only_retain_is_read():
    features, labels = samples()
    metric = NeuralCollapse(WIDTH, CLASSES, head())
    feed(metric, features, labels)
    for part in ("forget", "test_forget", "test_retain"):
        feed(metric, 9 * features, labels, part)
    assert [s.value for s in metric.scores()] == values(features, labels, head())


def test_what_the_scores_declare():
    found = scores(*samples(), head())
    assert [s.name for s in found] == ["nc1", "nc2", "nc3"]
    assert [s.range for s in found] == [(0.0, math.inf), (0.0, 2.0), (0.0, 2.0)]
    assert {(s.unit, s.better, s.trace) for s in found} == {("1", "reference", "both")}


def test_each_reason_stands_where_it_belongs():
    features, labels = samples()
    nc1, nc2, nc3 = scores(features, labels)
    assert nc1.value is not None and nc2.value is not None
    assert nc3.reason == "the features are not the input of a head with an output for each class"
    nothing = [s.reason for s in NeuralCollapse(WIDTH, CLASSES).scores()]
    assert nothing == ["needs retained samples of at least 2 classes, got 0"] * 3
    assert [s.reason for s in scores(features, 0 * labels, head())] == [
        "needs retained samples of at least 2 classes, got 1"
    ] * 3
    constant = [s.reason for s in scores(torch.full_like(features, 0.1), labels, head())]
    assert constant == ["the feature means of all 4 retained classes coincide"] * 3
    two = scores(features[labels < 3], labels[labels < 3], head())
    assert (
        "at least 3 classes, got 2" in two[1].reason
        and two[0].value is not None
        and two[2].value is not None
    )
    assert (
        scores(features, labels, 0 * head())[2].reason
        == "the head's weights are zero or orthogonal to the class means"
    )


def test_single_samples_and_missing_directions_have_no_nc1():
    features, labels = samples()
    rows = torch.cat(
        [torch.where(labels == c)[0] for c in (0, 2, 3)] + [torch.where(labels == 4)[0][:1]]
    )
    nc1, nc2, _ = scores(features[rows], labels[rows], head())
    assert "class 4 has 1" in nc1.reason and nc2.value is not None
    line = torch.zeros(40, WIDTH)
    line[:, 0] = (torch.arange(40) % 4).float()  # the means of four classes on one line
    assert (
        scores(line, torch.arange(40) % 4)[0].reason
        == "the means of 4 retained classes span 1 dimensions in place of 3"
    )


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(CLASSES - 1, WIDTH), torch.zeros(CLASSES, WIDTH + 1), torch.zeros(CLASSES)],
)
def test_a_head_that_does_not_fit_is_an_error(weight):
    with pytest.raises(EigenforgetError, match=r"a head for 5 classes must be \[5 or more, 8\]"):
        NeuralCollapse(WIDTH, CLASSES, weight)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (
            torch.full((2, WIDTH), torch.nan),
            [0, 1],
            "part retain: the model's features are not finite",
        ),
        (torch.zeros(2, WIDTH), [0, CLASSES], "part retain: label 5 is not one of 0 … 4"),
        (torch.zeros(2, WIDTH - 1), [0, 1], r"part retain: features must be \[B, 8\]"),
    ],
)
def test_wrong_batches_are_errors(features, labels, message):
    with pytest.raises(EigenforgetError, match=message):
        feed(NeuralCollapse(WIDTH, CLASSES), features, torch.tensor(labels))
