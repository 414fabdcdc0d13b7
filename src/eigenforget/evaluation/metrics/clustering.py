"""Do held-out features still fall into the classes? k-means clusters against labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor
from typing_extensions import override

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.types import Batch, Outputs, Part, Score
from eigenforget.evaluation.metrics.accuracy import (
    PARTS,
    interval_of_share,
    missing_share,
    share_score,
)
from eigenforget.evaluation.metrics.class_means import NO_ROWS, LabelledRows, checked_classes
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES, PanelMetric, too_few_of_class
from eigenforget.evaluation.metrics.similarity import checked_features, joined_state

_NAMES = ("nmi", "cluster_f1", "best_cluster_f1")
STARTS = 10
"""Starts of k-means."""


class Starts(NamedTuple):
    """k-means from several starts.

    Attributes:
        labels: Clusters [N] of each start.
        inertia: Their within-cluster sums of squares [STARTS].
        best: The number of the start that counts.
    """

    labels: Sequence[np.ndarray]
    inertia: np.ndarray
    best: int

    def weights(self) -> np.ndarray:
        """How likely each start is the best of as many that are drawn from these anew."""
        count = len(self.inertia)
        rank = self.inertia.argsort(kind="stable").argsort(kind="stable")
        shares: np.ndarray = ((count - rank) / count) ** count - (
            (count - rank - 1) / count
        ) ** count
        return shares


class ClusteringScores(PanelMetric):
    """`nmi`, `cluster_f1`, `best_cluster_f1`: do k-means clusters find the classes?

    k-means has 10 seeded starts and as many clusters as classes are present in test_forget and
    test_retain together. nmi: normalised mutual information of clusters and labels, arithmetic
    mean. cluster_f1: F1 of "same cluster" as a prediction of "same class" over all pairs of
    samples. best_cluster_f1: the best F1 that one cluster reaches for a forgotten class, averaged
    over these. Intervals cover the draw of the samples, with the clusters as they are
    (infinitesimal jackknife), and that of the starts. No score depends on the scale of the
    features, a shift or a rotation. The state is the held-out features, O(N·D), sorted by part and
    position, so that order and sharding do not matter.

    Not applicable: fewer than 10 samples or 2 classes, fewer distinct points than clusters, no two
    samples of one class; for best_cluster_f1 no class is forgotten as a whole, or one
    has fewer than 10 samples.

    Raises:
        EigenforgetError: A feature is not finite, a label is not a class, a sample is given twice.
    """

    name: ClassVar[str] = "clustering"
    reads: ClassVar[Literal["logits", "features"]] = "features"
    features: list[Tensor]
    labels: list[Tensor]
    keys: list[Tensor]

    def __init__(self, num_classes: int, forgotten_classes: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.num_classes, self.forgotten_classes, self.seed = (
            num_classes,
            tuple(forgotten_classes),
            seed,
        )
        self.add_rows("features", "labels", "keys")

    @override
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        # Training parts add no rows, but the typed empty tensors that a rank without held-out
        # samples must gather.
        rows = slice(None) if part in ("test_forget", "test_retain") else slice(0)
        features = checked_features(part, outputs.features[rows]).clone()
        labels = checked_classes(part, batch.labels[rows], num_classes=self.num_classes)
        positions = batch.positions[rows].to(features.device)
        self.features.append(features)
        self.labels.append(labels.to(features.device, copy=True))
        self.keys.append(
            torch.stack([torch.full_like(positions, PARTS.index(part)), positions], dim=1)
        )

    @override
    def measure(self) -> tuple[Score, ...]:
        rows = self._sorted()
        classes = np.unique(rows.labels)
        if len(classes) < 2:
            return _none(f"needs held-out samples of at least 2 classes, got {len(classes)}")
        count = len(rows.labels)
        if count < MIN_SAMPLES:
            return _none(f"needs {MIN_SAMPLES} held-out samples, got {count}")
        if count == len(classes):
            return _none(f"needs 2 held-out samples of one class, got 1 of each of {count}")
        distinct = len(np.unique(rows.features, axis=0))
        if distinct < len(classes):
            return _none(f"{distinct} distinct feature vectors cannot form {len(classes)} clusters")
        starts = kmeans_starts(
            rows.features, len(classes), seed=derive(self.seed, "clustering") % 2**32
        )
        tables = [contingency(rows.labels, c, num_classes=self.num_classes) for c in starts.labels]
        chosen = tables[starts.best]
        # Mutual information may round past 1 by one unit in the last place.
        nmi = min(
            float(
                normalized_mutual_info_score(
                    rows.labels, starts.labels[starts.best], average_method="arithmetic"
                )
            ),
            1.0,
        )
        return (
            cluster_score(
                "nmi", nmi, nmi_influence(chosen), [nmi_of(t) for t in tables], starts, chosen
            ),
            cluster_score(
                "cluster_f1",
                pairwise_f1(chosen),
                pairwise_influence(chosen),
                [pairwise_f1(t) for t in tables],
                starts,
                chosen,
            ),
            self._best(tables, starts),
        )

    def _best(self, tables: Sequence[np.ndarray], starts: Starts) -> Score:
        table = tables[starts.best]
        if not self.forgotten_classes:
            return missing_share("best_cluster_f1", reason="no class is forgotten as a whole")
        gone = self.forgotten_classes
        if few := too_few_of_class({c: int(table[c].sum()) for c in gone}, "held-out"):
            return missing_share("best_cluster_f1", reason=few)
        of_starts = [float(np.mean([best_cluster_f1(t, c) for c in gone])) for t in tables]
        influence = np.mean([best_influence(table, c) for c in gone], axis=0)
        return cluster_score(
            "best_cluster_f1", of_starts[starts.best], influence, of_starts, starts, table
        )

    def _sorted(self) -> LabelledRows:
        if len(self.keys) == 0:
            return NO_ROWS
        features, labels, keys = (
            joined_state(s).cpu().numpy() for s in (self.features, self.labels, self.keys)
        )
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        keys = keys[order]
        again = np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1))
        if len(again):
            code, position = keys[again[0]]
            raise EigenforgetError(
                f"clustering: position {position} of part {PARTS[code]} was given more than once"
            )
        return LabelledRows(features[order].astype(np.float64), labels[order])


def contingency(labels: np.ndarray, clusters: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Counts [num_classes, clusters] int64 of samples by class and cluster.

    Labels and clusters [N] count from 0.
    """
    width = int(clusters.max()) + 1
    return np.bincount(labels * width + clusters, minlength=num_classes * width).reshape(
        num_classes, width
    )


def pairwise_f1(table: np.ndarray) -> float:
    """F1 of "same cluster" against "same class" over all pairs, from counts [classes, clusters].

    Twice the pairs together in both, over pairs together in clusters plus pairs together in
    classes: the harmonic mean of precision and recall, and 0 where both are 0.

    Raises:
        EigenforgetError: No pair is together in either.
    """
    both, classes, clusters = (_pairs(n) for n in (table, table.sum(axis=1), table.sum(axis=0)))
    if classes + clusters == 0:
        raise EigenforgetError("pairwise F1 needs two samples of one class or of one cluster")
    return 2 * both / (classes + clusters)


def best_cluster_f1(table: np.ndarray, label: int) -> float:
    """The best F1 with which one cluster retrieves the samples of a class.

    The class `label` must not be empty.
    """
    return float((2 * table[label] / (table[label].sum() + table.sum(axis=0))).max())


def nmi_of(table: np.ndarray) -> float:
    """Normalised mutual information, arithmetic mean, from counts [classes, clusters]."""
    found = _information(table)
    return 1.0 if found.total == 0 else 2 * found.mutual / found.total


def nmi_influence(table: np.ndarray) -> np.ndarray:
    """[classes, clusters]: by how much `nmi_of` grows with the weight of a sample of each cell."""
    found = _information(table)
    if found.total == 0:
        return np.zeros(table.shape)
    mutual = found.pointwise - found.mutual
    entropies = -found.log_classes[:, None] - found.log_clusters[None, :] - found.total
    change = 2 * (mutual - entropies * found.mutual / found.total) / found.total
    return np.asarray(np.where(table > 0, change, 0.0) / table.sum())


def pairwise_influence(table: np.ndarray) -> np.ndarray:
    """[classes, clusters]: the same for `pairwise_f1`."""
    both, classes, clusters = (_pairs(n) for n in (table, table.sum(axis=1), table.sum(axis=0)))
    total = classes + clusters
    sides = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - 1
    return np.asarray((2 * table - 1) / total - 2 * both * sides / total**2)


def best_influence(table: np.ndarray, label: int) -> np.ndarray:
    """[classes, clusters]: the same for `best_cluster_f1`."""
    sizes = table[label].sum() + table.sum(axis=0)
    best = int((2 * table[label] / sizes).argmax())
    lost = 2 * table[label, best] / sizes[best] ** 2
    found = np.zeros(table.shape)
    found[label] -= lost
    found[:, best] -= lost
    found[label, best] += 2 / sizes[best]
    return found


def kmeans_starts(features: np.ndarray, clusters: int, *, seed: int) -> Starts:
    """k-means from STARTS seeded starts; the best is what one call with as many starts gives."""
    # One state of random numbers goes through all starts, as in a single call.
    random = np.random.RandomState(seed)
    with config_context(assume_finite=True, skip_parameter_validation=True):
        fits = [
            KMeans(clusters, n_init=1, random_state=random).fit(features) for _ in range(STARTS)
        ]
    best = 0
    for number, fit in enumerate(fits):
        if fit.inertia_ < fits[best].inertia_ and not _same(fit.labels_, fits[best].labels_):
            best = number
    return Starts(
        [fit.labels_ for fit in fits], np.array([float(fit.inertia_) for fit in fits]), best
    )


def _same(mine: np.ndarray, other: np.ndarray) -> bool:
    """Whether two clusterings are the same but for the numbers of the clusters."""
    pairs = len(np.unique(np.stack([mine, other]), axis=1).T)
    return pairs == len(np.unique(mine)) == len(np.unique(other))


def cluster_score(
    name: str,
    value: float,
    influence: np.ndarray,
    of_starts: Sequence[float],
    starts: Starts,
    table: np.ndarray,
) -> Score:
    """The score with its interval over new samples and new starts."""
    n = int(table.sum())
    centred = influence - (influence * table).sum() / n
    samples = float((table * np.square(centred)).sum()) * n / max(n - 1, 1)
    draws = float(starts.weights() @ np.square(np.array(of_starts) - value))
    interval = interval_of_share(value, error=math.sqrt(samples + draws), trials=n, most=10 * n)
    return share_score(name, value, interval)


class _Information(NamedTuple):
    """Of counts [classes, clusters], in nats; logarithms of empty cells are 0."""

    pointwise: np.ndarray
    mutual: float
    total: float
    log_classes: np.ndarray
    log_clusters: np.ndarray


def _information(table: np.ndarray) -> _Information:
    shares = table / table.sum()
    cells, classes, clusters = (
        np.log(p, out=np.zeros(p.shape), where=p > 0)
        for p in (shares, shares.sum(axis=1), shares.sum(axis=0))
    )
    pointwise = np.where(table > 0, cells - classes[:, None] - clusters[None, :], 0.0)
    entropies = shares.sum(axis=1) @ classes + shares.sum(axis=0) @ clusters
    return _Information(
        pointwise, float((shares * pointwise).sum()), -float(entropies), classes, clusters
    )


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1)).sum()) // 2


def _none(reason: str) -> tuple[Score, ...]:
    return tuple(missing_share(name, reason=reason) for name in _NAMES)
