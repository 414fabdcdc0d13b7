"""Nearest class mean: do features still fall to their class without any head?"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor
from typing_extensions import override

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Batch, Better, Outputs, Part, Score
from eigenforget.evaluation.metrics.accuracy import missing_share, share
from eigenforget.evaluation.metrics.panel import PanelMetric, no_samples, too_few_of_class
from eigenforget.evaluation.metrics.similarity import checked_features, is_constant, joined_state

TRAINING: tuple[Part, Part] = ("forget", "retain")
_BETTER: dict[str, Better] = {"ncm_forget": "reference", "ncm_retain": "higher"}
TIE = 1e-12
"""Distances this close, as a share of the vectors' norms, are equal: rounding of the means may move
them by as much.
"""


class LabelledRows(NamedTuple):
    """Features [N, D] and labels [N]."""

    features: np.ndarray
    labels: np.ndarray


NO_ROWS = LabelledRows(np.empty((0, 0)), np.empty(0, dtype=np.int64))


class NearestClassMean(PanelMetric):
    """`ncm_forget` and `ncm_retain`: accuracy of the class whose mean training feature is nearest.

    Euclidean, with true labels; the first of equally near classes counts. Where classes are
    forgotten, means are over both sides of the training data, ncm_forget is on test_forget and
    ncm_retain on test_retain. In other requests means are over the retain set alone, and ncm_forget
    is on the forget set, which has no held-out counterpart. Shares in [0, 1]; Wilson's interval
    covers the draw of the samples, not that of the means. ncm_forget: better = "reference"; above
    the retrained models the features still gather the class, whatever the head answers. ncm_retain:
    higher is better. The state is float64 sums [2, C, D] and counts of the training parts, and the
    features of the evaluated parts.

    Not applicable: no sample of the part, a class without training samples, class means that
    coincide; for ncm_forget a forgotten class with fewer than 10 training samples.

    Raises:
        EigenforgetError: A feature is not finite, or a label is not a class.

    Source: the nearest class centre rule of Papyan et al. (arXiv 2008.08186), as evaluations of CMF
    apply it to forgotten classes.
    """

    name: ClassVar[str] = "nearest_class_mean"
    reads: ClassVar[Literal["logits", "features"]] = "features"
    sums: Tensor
    counts: Tensor
    forget_features: list[Tensor]
    forget_labels: list[Tensor]
    retain_features: list[Tensor]
    retain_labels: list[Tensor]

    def __init__(
        self, num_features: int, num_classes: int, forgotten_classes: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.num_features, self.num_classes, self.forgotten_classes = (
            num_features,
            num_classes,
            tuple(forgotten_classes),
        )
        self.evaluated: tuple[Part, Part] = (
            "test_forget" if forgotten_classes else "forget",
            "test_retain",
        )
        self.add_sums(
            sums=torch.zeros(2, num_classes, num_features, dtype=torch.float64),
            counts=torch.zeros(2, num_classes, dtype=torch.int64),
        )
        self.add_rows("forget_features", "forget_labels", "retain_features", "retain_labels")

    @override
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        features = checked_features(part, outputs.features, width=self.num_features)
        labels = checked_classes(part, batch.labels, num_classes=self.num_classes).to(
            features.device
        )
        if part in TRAINING:
            members = torch.nn.functional.one_hot(labels, self.num_classes)
            self.counts[TRAINING.index(part)] += members.sum(dim=0)
            self.sums[TRAINING.index(part)] += members.double().T @ features.double()
        states = (
            (self.forget_features, self.forget_labels),
            (self.retain_features, self.retain_labels),
        )
        for kept, (rows, classes) in zip(self.evaluated, states, strict=True):
            # A part that is not kept still gets typed empty rows: a rank with an empty list cannot
            # be gathered.
            taken = slice(None) if part == kept else slice(0)
            rows.append(features[taken].clone())
            classes.append(labels[taken].clone())

    @override
    def measure(self) -> tuple[Score, ...]:
        sides = (
            _rows(self.forget_features, self.forget_labels),
            _rows(self.retain_features, self.retain_labels),
        )
        return tuple(
            self._score(name, part, rows)
            for name, part, rows in zip(_BETTER, self.evaluated, sides, strict=True)
        )

    def _score(self, name: str, part: Part, rows: LabelledRows) -> Score:
        if not len(rows.labels):
            return missing_share(name, reason=no_samples(part), better=_BETTER[name])
        first = 0 if self.forgotten_classes else TRAINING.index("retain")
        counts, sums = (
            self.counts[first:].sum(dim=0).cpu().numpy(),
            self.sums[first:].sum(dim=0).cpu().numpy(),
        )
        needed = np.union1d(rows.labels, np.array(self.forgotten_classes, dtype=np.int64))
        missing = needed[counts[needed] == 0]
        if len(missing):
            where = " and ".join(f"the {side} set" for side in TRAINING[first:])
            return missing_share(
                name,
                reason=f"no sample of class {listed(missing)} in {where} to take a mean of",
                better=_BETTER[name],
            )
        if part != "test_retain":
            gone = {c: int(counts[c]) for c in self.forgotten_classes}
            if few := too_few_of_class(gone, "training"):
                return missing_share(name, reason=few, better=_BETTER[name])
        known = np.flatnonzero(counts)
        means = sums[known] / counts[known, None]
        if means_coincide(means):
            return missing_share(
                name,
                reason=f"the feature means of all {len(known)} classes coincide",
                better=_BETTER[name],
            )
        guesses = known[nearest_mean(rows.features, means=means)]
        return share(
            name,
            correct=int((guesses == rows.labels).sum()),
            seen=len(rows.labels),
            better=_BETTER[name],
        )


def nearest_mean(features: np.ndarray, *, means: np.ndarray) -> np.ndarray:
    """Row [N] of the mean [K, D] that is nearest to each feature [N, D].

    Of those equally near to rounding the first counts.
    """
    distances = cdist(features, means)
    scale = np.linalg.norm(features, axis=1) + np.linalg.norm(means, axis=1).max()
    nearest: np.ndarray = (
        distances <= distances.min(axis=1, keepdims=True) + TIE * scale[:, None]
    ).argmax(axis=1)
    return nearest


def means_coincide(means: np.ndarray) -> bool:
    """Whether class means [K, D] spread no further than rounding would."""
    grand = means.mean(axis=0)
    return is_constant(
        samples=len(means),
        energy=float(np.square(means - grand).sum()),
        mean=torch.from_numpy(grand),
    )


def checked_classes(part: Part, labels: Tensor, *, num_classes: int) -> Tensor:
    """The labels as int64.

    Raises:
        EigenforgetError: One is not a class.
    """
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.numel():
        raise EigenforgetError(
            f"part {part}: label {int(wrong[0])} is not one of 0 … {num_classes - 1}"
        )
    return labels.long()


def _rows(features: list[Tensor], labels: list[Tensor]) -> LabelledRows:
    if not len(labels):
        return NO_ROWS
    return LabelledRows(
        joined_state(features).cpu().numpy().astype(np.float64), joined_state(labels).cpu().numpy()
    )
