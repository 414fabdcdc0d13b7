"""Clustering scores against loops over all pairs, scikit-learn on sorted features, sharding,
degenerate features.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import xlogy
from sklearn.cluster import KMeans
from sklearn.metrics import f1_score
from sklearn.metrics.cluster import pair_confusion_matrix

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics.clustering import (
    ClusteringScores,
    best_cluster_f1,
    best_influence,
    contingency,
    kmeans_starts,
    nmi_influence,
    nmi_of,
    pairwise_f1,
    pairwise_influence,
)


def samples(n, classes, seed=0, spread=1.0, width=6):
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(10, width, generator=torch.Generator().manual_seed(99))
    labels = torch.tensor(classes)[torch.randint(len(classes), (n,), generator=g)]
    return centres[labels] + spread * torch.randn(n, width, generator=g), labels


def feed(metric, part, features, labels, rows=None):
    rows = torch.arange(len(labels)) if rows is None else rows
    metric.update(
        part, Batch(None, labels[rows], rows), Outputs(torch.zeros(len(rows), 4), features[rows])
    )


def slow_pair_f1(labels, clusters):
    hit = miss = false = 0
    for i, j in itertools.combinations(range(len(labels)), 2):
        same_class, same_cluster = labels[i] == labels[j], clusters[i] == clusters[j]
        hit += same_class and same_cluster
        miss += same_class and not same_cluster
        false += same_cluster and not same_class
    precision, recall = hit / (hit + false), hit / (hit + miss)
    return 2 * precision * recall / (precision + recall)


def slow_nmi(labels, clusters):
    joint = np.array(
        [[np.mean((labels == c) & (clusters == k)) for k in set(clusters)] for c in set(labels)]
    )
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = [-xlogy(p, p).sum() for p in (rows, columns)]
    mutual = xlogy(joint, joint).sum() - xlogy(joint, np.outer(rows, columns)).sum()
    return mutual / np.mean(entropies)


@pytest.mark.parametrize("seed", range(4))
def test_pairwise_f1_is_the_loop_over_all_pairs(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 60)
    clusters = np.where(rng.random(60) < 0.6, labels, rng.integers(0, 5, 60))
    found = pairwise_f1(contingency(labels, clusters, num_classes=4))
    assert found == pytest.approx(slow_pair_f1(labels, clusters), rel=1e-12)
    (_, fp), (fn, tp) = pair_confusion_matrix(labels, clusters)
    assert found == pytest.approx(2 * tp / (2 * tp + fp + fn), rel=1e-12)


def test_pairwise_f1_counts_pairs_beyond_32_bits_exactly():
    assert pairwise_f1(np.diag([200_000, 300_000])) == 1.0
    n = 100_000  # both classes in one cluster: precision about a half, recall 1
    assert pairwise_f1(np.array([[n], [n]])) == pytest.approx(
        2 * n * (n - 1) / (n * (n - 1) + n * (2 * n - 1)), rel=1e-12
    )


def test_pairwise_f1_without_any_pair_is_an_error():
    with pytest.raises(EigenforgetError, match="two samples"):
        pairwise_f1(np.eye(3, dtype=np.int64))


def test_the_contingency_table_counts_each_class_and_cluster():
    table = contingency(np.array([0, 0, 2, 2, 2]), np.array([1, 1, 0, 1, 2]), num_classes=4)
    assert table.tolist() == [[0, 2, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_the_best_cluster_is_the_one_with_the_largest_f1():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 3, 80), rng.integers(0, 4, 80)
    table = contingency(labels, clusters, num_classes=3)
    for c in range(3):
        expected = max(f1_score(labels == c, clusters == k) for k in range(4))
        assert best_cluster_f1(table, c) == pytest.approx(expected, rel=1e-12)


def test_scores_are_those_of_kmeans_on_the_sorted_held_out_features():
    gone, kept = samples(70, (1, 3), 0), samples(130, (0, 2, 4), 1)
    metric = ClusteringScores(num_classes=10, forgotten_classes=(1, 3), seed=5)
    feed(metric, "retain", *samples(50, (0, 2, 4), 2))
    feed(metric, "test_retain", *kept)
    feed(metric, "test_forget", *gone)
    found = {s.name: s for s in metric.scores()}
    features = torch.cat([gone[0], kept[0]]).double().numpy()
    labels = torch.cat([gone[1], kept[1]]).numpy()
    seed = derive(5, "clustering") % 2**32
    clusters = KMeans(5, n_init=10, random_state=seed).fit_predict(features)
    assert found["nmi"].value == pytest.approx(slow_nmi(labels, clusters), rel=1e-10)
    assert found["cluster_f1"].value == pytest.approx(slow_pair_f1(labels, clusters), rel=1e-10)
    best = [max(f1_score(labels == c, clusters == k) for k in range(5)) for c in (1, 3)]
    assert best[0] != best[1]
    assert found["best_cluster_f1"].value == pytest.approx(np.mean(best), rel=1e-10)
    assert 0.3 < found["nmi"].value < 1
    assert all(s.better == "reference" and s.range == (0.0, 1.0) for s in found.values())


def test_starts_are_those_of_a_single_call_and_their_weights_those_of_a_redrawn_best():
    features = samples(150, [0, 1, 2, 3], spread=3.0)[0].double().numpy()
    for seed in range(3):
        starts = kmeans_starts(features, 4, seed=seed)
        whole = KMeans(4, n_init=10, random_state=seed).fit(features)
        assert (starts.labels[starts.best] == whole.labels_).all()
        assert starts.inertia[starts.best] == whole.inertia_
    drawn = np.random.default_rng(0).integers(0, 10, (20_000, 10))
    ranks = starts.inertia.argsort(kind="stable").argsort(kind="stable")
    best = np.bincount(ranks[drawn].min(axis=1), minlength=10) / 20_000
    assert starts.weights().sum() == pytest.approx(1)
    assert starts.weights() == pytest.approx(best[ranks], abs=0.02)


@pytest.mark.parametrize(
    ("score", "influence"),
    [
        (nmi_of, nmi_influence),
        (pairwise_f1, pairwise_influence),
        (lambda t: best_cluster_f1(t, 1), lambda t: best_influence(t, 1)),
    ],
    ids=["nmi", "pairwise", "best"],
)
def test_influences_are_derivatives_and_give_the_spread_of_resamples(score, influence):
    table = np.array([[30, 2, 0], [4, 25, 6], [0, 3, 40]])
    found, step = influence(table), 1e-4
    for cell in zip(*np.nonzero(table), strict=True):
        more, less = (table.astype(float) for _ in range(2))
        more[cell] += step
        less[cell] -= step
        if score is not pairwise_f1:  # which counts whole pairs
            assert found[cell] == pytest.approx((score(more) - score(less)) / 2 / step, rel=1e-4)
    n = int(table.sum())
    drawn = np.random.default_rng(1).multinomial(n, table.ravel() / n, 2000).reshape(-1, 3, 3)
    centred = found - (found * table).sum() / n
    error = np.sqrt((table * centred**2).sum())
    assert error == pytest.approx(np.std([score(t) for t in drawn]), rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_without_clear_clusters_the_seed_and_float64_decide(seed):
    features = torch.randn(400, 6, generator=torch.Generator().manual_seed(seed)) + 100_000
    labels = torch.arange(400) % 8
    metric = ClusteringScores(num_classes=8, forgotten_classes=(), seed=seed)
    feed(metric, "test_retain", features, labels)
    expected_seed = derive(seed, "clustering") % 2**32
    clusters = KMeans(8, n_init=10, random_state=expected_seed).fit_predict(
        features.double().numpy()
    )
    assert metric.scores()[0].value == pytest.approx(slow_nmi(labels.numpy(), clusters), rel=1e-10)


def test_float64_features_keep_what_float32_would_lose():
    labels = torch.arange(40) % 2
    features = 1 + 1e-10 * labels.double()[:, None] * torch.ones(1, 3, dtype=torch.float64)
    metric = ClusteringScores(num_classes=2, forgotten_classes=(), seed=0)
    feed(metric, "test_retain", features, labels)
    assert [s.value for s in metric.scores()] == [1.0, 1.0, None]


def test_well_separated_classes_score_exactly_one():
    labels = torch.arange(40) % 4
    metric = ClusteringScores(num_classes=4, forgotten_classes=(2,), seed=0)
    features = 100 * torch.eye(4)[labels] + torch.randn(
        40, 4, generator=torch.Generator().manual_seed(0)
    )
    feed(metric, "test_forget", features, labels, torch.where(labels == 2)[0])
    feed(metric, "test_retain", features, labels, torch.where(labels != 2)[0])
    assert [s.value for s in metric.scores()] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shuffles_batches_and_shards_give_the_one_pass_result_bit_for_bit(dtype):
    parts = {
        "test_forget": samples(60, (1,), 0, 2.5),
        "test_retain": samples(140, (0, 2, 3), 1, 2.5),
    }
    whole = ClusteringScores(4, (1,), 0)
    shards = [ClusteringScores(4, (1,), 0) for _ in range(3)]
    for part, (features, labels) in parts.items():
        feed(whole, part, features.to(dtype), labels)
    for part, (features, labels) in reversed(parts.items()):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
        for i, rows in enumerate(order.split(7)):
            feed(shards[(i * i) % 3], part, features.to(dtype), labels, rows)
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert 0 < whole.scores()[0].value < 1
    assert shards[0].scores() == whole.scores()


def test_random_requests_have_no_best_cluster():
    metric = ClusteringScores(10, (), 0)
    feed(metric, "test_retain", *samples(80, (0, 1, 2)))
    nmi, f1, best = metric.scores()
    assert nmi.value is not None and f1.value is not None
    assert best.value is None and "no class is forgotten as a whole" in best.reason


def test_a_forgotten_class_without_held_out_samples_is_named():
    metric = ClusteringScores(10, (1, 7), 0)
    feed(metric, "test_forget", *samples(20, (1,)))
    feed(metric, "test_retain", *samples(80, (0, 2)))
    assert metric.scores()[2].reason == "needs 10 held-out samples of class 7, got 0"


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (
            torch.ones(30, 4),
            torch.arange(30) % 3,
            "1 distinct feature vectors cannot form 3 clusters",
        ),
        (
            torch.eye(4)[torch.arange(30) % 2],
            torch.arange(30) % 3,
            "2 distinct feature vectors cannot form 3 clusters",
        ),
        (torch.randn(30, 4), torch.zeros(30, dtype=torch.long), "at least 2 classes, got 1"),
        (torch.randn(0, 4), torch.zeros(0, dtype=torch.long), "at least 2 classes, got 0"),
    ],
)
def test_what_cannot_be_clustered_is_not_applicable(features, labels, reason):
    metric = ClusteringScores(3, (1,), 0)
    feed(metric, "test_retain", features, labels)
    for score in metric.scores():
        assert score.value is None and reason in score.reason


def test_nothing_seen_is_not_applicable():
    metric = ClusteringScores(3, (1,), 0)
    feed(metric, "forget", *samples(5, (1,)))
    assert [s.value for s in metric.scores()] == [None] * 3
    assert {(s.dtype, tuple(s.shape)) for s in metric.features} == {(torch.float32, (0, 6))}


def test_later_changes_of_the_features_do_not_reach_the_metric():
    features, labels = samples(60, (0, 1))
    metric, reference = ClusteringScores(3, (1,), 0), ClusteringScores(3, (1,), 0)
    batch = Batch(None, labels, torch.arange(60))
    metric.update("test_retain", batch, Outputs(features, features))
    reference.update("test_retain", batch, Outputs(features, features.clone()))
    features.zero_()
    assert metric.scores() == reference.scores()


@pytest.mark.parametrize(
    ("features", "labels", "rows", "message"),
    [
        (
            torch.full((2, 3), torch.inf),
            [0, 1],
            [0, 1],
            "part test_retain: the model's features are not finite",
        ),
        (torch.zeros(2, 3, 4), [0, 1], [0, 1], r"\[B, D\], got \[2, 3, 4\]"),
        (torch.zeros(2, 3), [0, 3], [0, 1], "label 3 is not one of 0 … 2"),
        (
            torch.zeros(2, 3),
            [0, 1],
            [4, 4],
            "position 4 of part test_retain was given more than once",
        ),
    ],
)
def test_wrong_batches_are_errors(features, labels, rows, message):
    metric = ClusteringScores(3, (1,), 0)
    with pytest.raises(EigenforgetError, match=message):
        metric.update(
            "test_retain",
            Batch(None, torch.tensor(labels), torch.tensor(rows)),
            Outputs(features, features),
        )
        metric.scores()
