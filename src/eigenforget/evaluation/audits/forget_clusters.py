"""Do two clusters of the features divide the forget set from the retain set?"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from sklearn.metrics import normalized_mutual_info_score

from eigenforget.core.seeds import derive
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.audits.linear_probe import finite_features
from eigenforget.evaluation.audits.sides import TOLD_APART, balanced, missing_side
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.accuracy import missing_share
from eigenforget.evaluation.metrics.clustering import (
    best_cluster_f1,
    best_influence,
    cluster_score,
    contingency,
    kmeans_starts,
    nmi_influence,
    nmi_of,
)
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES

_NAMES = ("nmi_forget", "f1_forget")
_SIDE = 1
"""The forget set's row in the table of sides and clusters."""


@configured
class ForgetClusters:
    """`nmi_forget`, `f1_forget`: do two clusters divide the forget set from the retain set?

    k-means with K = 2 and 10 seeded starts runs on the features of the forget set and of as many
    retained training samples, a seeded draw; at most `most` of either. nmi_forget: normalised
    mutual information of cluster and side, arithmetic mean; with sides of one size the other means
    differ by little. f1_forget: the best F1 with which one of the two clusters retrieves the forget
    set. Where nothing divides the sides it is 0.5 to 2/3, which one cluster that holds everything
    has. Both in [0, 1], with intervals over new samples and new starts as in `ClusteringScores`.
    Where a class is forgotten the original is high, and a retrained model lower: its value is the
    target. Where samples are forgotten nothing divides the sides, and both are null controls. No
    score depends on the scale of the features, a shift or a rotation.

    Not applicable: fewer than 10 samples of a side, fewer than 2 distinct points.

    Raises:
        EigenforgetError: A feature is not finite.

    Source: the NMI beside DA in the tables of arXiv 2606.14997 runs from 0.24 to 0.91. Clusters of
    all classes against all labels (`nmi`) cannot have such values; two clusters of two sides can.
    The paper's own choice of samples and mean is not known here.
    """

    name: ClassVar[str] = "forget_clusters"
    reads: ClassVar[Reads] = "features"
    most: Annotated[int, Field(ge=MIN_SAMPLES), "most samples of either side"] = 2000

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The two scores, or the reason why there are none."""
        if reason := missing_side(evidence):
            return _none(reason)
        rng = np.random.default_rng(derive(seed, self.name))
        drawn = balanced([evidence.count(p) for p in TOLD_APART], self.most, rng)
        count = len(drawn[0])
        features = np.concatenate(
            [
                finite_features(evidence.parts[p].features[rows], p, "k-means")
                for p, rows in zip(TOLD_APART, drawn, strict=True)
            ]
        ).astype(np.float64)
        sides = np.r_[np.full(count, _SIDE), np.zeros(count, dtype=np.int64)]
        if len(np.unique(features, axis=0)) < 2:
            return _none("all features are alike, so there are no two clusters")
        starts = kmeans_starts(features, 2, seed=derive(seed, self.name, "kmeans") % 2**32)
        tables = [contingency(sides, c, num_classes=2) for c in starts.labels]
        chosen = tables[starts.best]
        nmi = min(float(normalized_mutual_info_score(sides, starts.labels[starts.best])), 1.0)
        f1s = [best_cluster_f1(table, _SIDE) for table in tables]
        nmis = [nmi_of(table) for table in tables]
        return (
            cluster_score(_NAMES[0], nmi, nmi_influence(chosen), nmis, starts, chosen),
            cluster_score(
                _NAMES[1], f1s[starts.best], best_influence(chosen, _SIDE), f1s, starts, chosen
            ),
        )


def _none(reason: str) -> tuple[Score, ...]:
    return tuple(missing_share(name, reason=reason) for name in _NAMES)
