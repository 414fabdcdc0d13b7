"""Neural collapse of the retained classes: geometry of class means and head."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Batch, Outputs, Part, Score
from eigenforget.evaluation.metrics.class_means import checked_classes, means_coincide
from eigenforget.evaluation.metrics.panel import PanelMetric
from eigenforget.evaluation.metrics.similarity import checked_features

RANGES = {"nc1": (0.0, math.inf), "nc2": (0.0, 2.0), "nc3": (0.0, 2.0)}


class ClassMoments(NamedTuple):
    """Float64 moments of features by class.

    Attributes:
        counts: [C].
        means: [C, D].
        scatter: Within-class scatter Σ_c Σ_i (h−μ_c)(h−μ_c)ᵀ [D, D].
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor


class NeuralCollapse(PanelMetric):
    """`nc1`, `nc2`, `nc3` on the retain training features of the K classes that occur there.

    With class means μ_c (each class with the weight of one mean), H [K, D] the means minus their
    own mean, W [K, D] the head's rows of these classes, S_w the within-class covariance over all
    samples, S_b = HᵀH / K and the simplex frame E = (I − 11ᵀ/K) / √(K−1):

        nc1 = tr(S_w S_b⁺) / K in [0, ∞), 0 where each class is one point
        nc2 = ‖HHᵀ/‖HHᵀ‖_F − E‖_F in [0, 2]
        nc3 = ‖WHᵀ/‖WHᵀ‖_F − E‖_F in [0, 2], 0 where head and means form one frame

    Unit "1", better = "reference", trace "both": they say that the geometry differs from a
    retrained model's, not in which sense. The pseudo-inverse takes the min(K−1, D) largest singular
    values of H, since centring leaves no more. If one of them is below max(K, D) · eps of the
    largest, nc1 is not applicable.

    Also not applicable: fewer than 2 classes; fewer than 3 for nc2 (any two means form the frame);
    coinciding class means. For nc1: a class with one sample. For nc3: a layer that is not the
    head's input, or head rows orthogonal to the means.

    Raises:
        EigenforgetError: A feature is not finite, a label is not a class, or a head does not fit.

    Source: Papyan et al. (arXiv 2008.08186); nc2 and nc3 as Frobenius distances as in Zhu et al.
    (arXiv 2105.02375). Deviations: unbalanced classes, see above; W is not centred.
    """

    name: ClassVar[str] = "neural_collapse"
    reads: ClassVar[Literal["logits", "features"]] = "features"
    packed: Tensor

    def __init__(self, num_features: int, num_classes: int, head: Tensor | None = None) -> None:
        super().__init__()
        if head is not None and (
            head.ndim != 2 or len(head) < num_classes or head.shape[1] != num_features
        ):
            need = f"[{num_classes} or more, {num_features}]"
            raise EigenforgetError(
                f"a head for {num_classes} classes must be {need}, got {list(head.shape)}"
            )
        self.num_features, self.num_classes = num_features, num_classes
        self.head = None if head is None else head.detach().double().cpu().numpy().copy()
        nothing = torch.zeros(num_classes + num_features, 1 + num_features, dtype=torch.float64)
        self.add_state("packed", nothing, dist_reduce_fx=_merge_packed)

    @override
    def uses(self, part: Part) -> bool:
        return part == "retain"

    @override
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        if not self.uses(part):
            return
        features = checked_features(part, outputs.features, width=self.num_features).double()
        labels = checked_classes(part, batch.labels, num_classes=self.num_classes).to(
            features.device
        )
        seen = class_moments(features, labels, num_classes=self.num_classes)
        self.packed = _pack(merge_classes(_unpack(self.packed), seen))

    @override
    def measure(self) -> tuple[Score, ...]:
        found = ClassMoments(*(tensor.cpu() for tensor in _unpack(self.packed)))
        kept = np.flatnonzero(found.counts.numpy())
        counts, means = found.counts.numpy()[kept], found.means.numpy()[kept]
        if len(kept) < 2:
            return _scores([f"needs retained samples of at least 2 classes, got {len(kept)}"] * 3)
        if means_coincide(means):
            return _scores([f"the feature means of all {len(kept)} retained classes coincide"] * 3)
        centred = means - means.mean(axis=0)
        few = (
            f"needs retained samples of at least 3 classes, got {len(kept)}: any two class "
            "means form the frame"
        )
        return _scores(
            [
                self._nc1(centred, found.scatter.numpy(), counts=counts, classes=kept),
                frame_distance(centred @ centred.T) if len(kept) > 2 else few,
                self._nc3(centred, kept),
            ]
        )

    def _nc1(
        self, centred: np.ndarray, scatter: np.ndarray, *, counts: np.ndarray, classes: np.ndarray
    ) -> float | str:
        if counts.min() < 2:
            return (
                "needs 2 retained samples of each class for its spread, class "
                f"{listed(classes[counts < 2])} has 1"
            )
        return within_over_between(centred, within=scatter / counts.sum())

    def _nc3(self, centred: np.ndarray, classes: np.ndarray) -> float | str:
        if self.head is None:
            return "the features are not the input of a head with an output for each class"
        product = self.head[classes] @ centred.T
        largest = np.linalg.norm(self.head[classes]) * np.linalg.norm(centred)
        if np.linalg.norm(product) <= centred.shape[1] * np.finfo(np.float64).eps * largest:
            return "the head's weights are zero or orthogonal to the class means"
        return frame_distance(product)


def within_over_between(centred: np.ndarray, *, within: np.ndarray) -> float | str:
    """tr(S_w S_b⁺) / K from centred class means [K, D] and S_w [D, D].

    Returns:
        The value, or the reason where the means are short of directions.
    """
    k, width = centred.shape
    rank = min(k - 1, width)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    above = int((singular[:rank] > singular[0] * max(k, width) * np.finfo(np.float64).eps).sum())
    if above < rank:
        return f"the means of {k} retained classes span {above} dimensions in place of {rank}"
    spread = np.einsum("rd,de,re->r", directions[:rank], within, directions[:rank])
    # S_b = HᵀH / K has the eigenvalues s² / K, so the 1 / K of nc1 cancels. Rounding may leave a
    # spread of 0 just below it.
    return max(float((spread / singular[:rank] ** 2).sum()), 0.0)


def frame_distance(gram: np.ndarray) -> float:
    """‖G/‖G‖_F − (I − 11ᵀ/K)/√(K−1)‖_F in [0, 2] of a non-zero matrix [K, K]."""
    k = len(gram)
    frame = (np.eye(k) - 1 / k) / math.sqrt(k - 1)
    return min(float(np.linalg.norm(gram / np.linalg.norm(gram) - frame)), 2.0)


def class_moments(features: Tensor, labels: Tensor, *, num_classes: int) -> ClassMoments:
    """Of float64 rows [N, D] with labels [N] below num_classes; a class without rows has mean 0."""
    members = torch.nn.functional.one_hot(labels, num_classes).double()
    counts = members.sum(dim=0)
    means = members.T @ features / counts.clamp_min(1).unsqueeze(1)
    centred = features - means[labels]
    return ClassMoments(counts, means, centred.T @ centred)


def merge_classes(a: ClassMoments, b: ClassMoments) -> ClassMoments:
    """The moments of both sets of rows together, without cancellation (Chan 1983)."""
    counts = a.counts + b.counts
    share = (b.counts / counts.clamp_min(1)).unsqueeze(1)
    delta = b.means - a.means
    between = (delta * share * a.counts.unsqueeze(1)).T @ delta
    return ClassMoments(counts, a.means + delta * share, a.scatter + b.scatter + between)


def _pack(m: ClassMoments) -> Tensor:
    """[C + D, 1 + D]: count and mean of each class, then the scatter behind a column of zeros."""
    classes = torch.cat([m.counts.unsqueeze(1), m.means], dim=1)
    return torch.cat([classes, torch.nn.functional.pad(m.scatter, (1, 0))])


def _unpack(packed: Tensor) -> ClassMoments:
    classes = packed.shape[0] - (packed.shape[1] - 1)
    return ClassMoments(packed[:classes, 0], packed[:classes, 1:], packed[classes:, 1:])


def _merge_packed(stacked: Tensor) -> Tensor:
    """Merges states [ranks, C + D, 1 + D] in rank order."""
    total = _unpack(stacked[0])
    for rank in stacked[1:]:
        total = merge_classes(total, _unpack(rank))
    return _pack(total)


def _scores(found: list[float | str]) -> tuple[Score, ...]:
    """One Score per name in RANGES, of a value or of the reason why there is none."""
    return tuple(
        Score(name, None, "1", "reference", span, reason=value, trace="both")
        if isinstance(value, str)
        else Score(name, value, "1", "reference", span, trace="both")
        for (name, span), value in zip(RANGES.items(), found, strict=True)
    )
