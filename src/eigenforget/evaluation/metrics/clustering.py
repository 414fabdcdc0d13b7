"""Do held-out features still fall into the classes? k-means clusters against labels."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor
from typing_extensions import override

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.text import listed
from eigenforget.core.types import Batch, Outputs, Part, Score
from eigenforget.evaluation.metrics.accuracy import PARTS, missing_share, share_score
from eigenforget.evaluation.metrics.class_means import NO_ROWS, LabelledRows, checked_classes
from eigenforget.evaluation.metrics.panel import PanelMetric
from eigenforget.evaluation.metrics.similarity import checked_features, joined_state

_NAMES = ("nmi", "cluster_f1", "best_cluster_f1")


class ClusteringScores(PanelMetric):
    """`nmi`, `cluster_f1`, `best_cluster_f1`: do k-means clusters find the classes?

    k-means has 10 seeded starts and as many clusters as classes are present in test_forget and
    test_retain together. nmi: normalised mutual information of clusters and labels, arithmetic
    mean. cluster_f1: F1 of "same cluster" as a prediction of "same class" over all pairs of
    samples. best_cluster_f1: the best F1 that one cluster reaches for a forgotten class, averaged
    over these. The state is the held-out features, O(N·D), sorted by part and position, so that
    order and sharding do not matter.

    Not applicable: fewer than 2 classes, fewer distinct points than clusters; for best_cluster_f1
    no class is forgotten as a whole.

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
        distinct = len(np.unique(rows.features, axis=0))
        if distinct < len(classes):
            return _none(f"{distinct} distinct feature vectors cannot form {len(classes)} clusters")
        kmeans = KMeans(
            len(classes), n_init=10, random_state=derive(self.seed, "clustering") % 2**32
        )
        clusters = kmeans.fit_predict(rows.features)
        # Mutual information may round past 1 by one unit in the last place.
        nmi = min(
            float(normalized_mutual_info_score(rows.labels, clusters, average_method="arithmetic")),
            1.0,
        )
        table = contingency(rows.labels, clusters, num_classes=self.num_classes)
        return (
            share_score("nmi", nmi),
            share_score("cluster_f1", pairwise_f1(table)),
            self._best(table),
        )

    def _best(self, table: np.ndarray) -> Score:
        if not self.forgotten_classes:
            return missing_share("best_cluster_f1", "no class is forgotten as a whole")
        missing = [c for c in self.forgotten_classes if table[c].sum() == 0]
        if missing:
            return missing_share(
                "best_cluster_f1", f"no held-out sample of forgotten class {listed(missing)}"
            )
        best = [best_cluster_f1(table, c) for c in self.forgotten_classes]
        return share_score("best_cluster_f1", float(np.mean(best)))

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


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1)).sum()) // 2


def _none(reason: str) -> tuple[Score, ...]:
    return tuple(missing_share(name, reason) for name in _NAMES)
