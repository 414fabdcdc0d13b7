"""Are two models' features the same up to a rotation? Linear CKA, orthogonal Procrustes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from eigenforget.alignment import Moments, empty_moments, merge, moments, range_basis
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Part
from eigenforget.evaluation.metrics.paired import Against, ComparisonKind, PairedMetric
from eigenforget.evaluation.metrics.panel import all_finite, too_few

RESOLUTION = 1e-6
"""Spread over norm below which features count as constant: what float32 reaches on its way
through a network.
"""

_FORGET = ComparisonKind("1", (0.0, 1.0), to_original="above")
_RETAIN = ComparisonKind("1", (0.0, 1.0), trace="")


class Cross(NamedTuple):
    """Centred second moments of paired rows x [N, D] and y [N, E].

    Attributes:
        xx: Σ(x−x̄)(x−x̄)ᵀ [D, D].
        yy: Σ(y−ȳ)(y−ȳ)ᵀ [E, E].
        xy: Σ(x−x̄)(y−ȳ)ᵀ [D, E].
        rank: What the rank of xy cannot exceed, such as the number of rows; None where unknown.
    """

    xx: Tensor
    yy: Tensor
    xy: Tensor
    rank: int | None = None


class PairedRows(NamedTuple):
    """Rows of two models' features on the same samples, [B, D] and [B, E] float64."""

    mine: Tensor
    other: Tensor


def linear_cka(cross: Cross) -> float:
    """‖C_xy‖²_F / (‖C_xx‖_F ‖C_yy‖_F) in [0, 1]; both sides must vary (arXiv 1905.00414)."""
    norms = torch.linalg.matrix_norm(cross.xx) * torch.linalg.matrix_norm(cross.yy)
    return min(float(torch.linalg.matrix_norm(cross.xy).square() / norms), 1.0)


def procrustes_similarity(cross: Cross) -> float:
    """‖C_xy‖_* / √(tr C_xx · tr C_yy) in [0, 1], ‖·‖_* the sum of singular values.

    Both sides must vary. It is 1 − d²/2, where d² = min over orthogonal Q of ‖X Q − Y‖²_F is the
    squared Procrustes distance of the centred features, each scaled to Frobenius norm 1 and the
    narrower filled up with zeros (arXiv 2108.01661 scales likewise and reports d²).
    """
    norms = (torch.trace(cross.xx) * torch.trace(cross.yy)).sqrt()
    xy = cross.xy
    if cross.rank is not None and 3 * cross.rank < min(xy.shape):
        # Far below the widths: the singular values are those of xy on its range.
        xy = range_basis(xy, cross.rank, symmetric=False).T @ xy
    return min(float(torch.linalg.svdvals(xy).sum() / norms), 1.0)


class _Similarity(PairedMetric):
    """What both similarities share: the sides they are measured on, and their state.

    The state is one row per shard of float64 moments of the joint features [x, y], so models may
    differ in width, and the other's need not be known before the first batch. O((D + E)²), whatever
    the number of samples.
    """

    reads: ClassVar[Literal["logits", "features"]] = "features"
    against: ClassVar[tuple[Against, ...]] = ("original", "oracle")
    gathers: ClassVar[str] = "joint moments"
    samples: list[Tensor]
    means: list[Tensor]
    scatters: list[Tensor]

    def __init__(self, num_features: int, forgotten_classes: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features = num_features
        self.parts: tuple[Part, Part] = (
            "test_forget" if forgotten_classes else "forget",
            "test_retain",
        )
        self.add_rows("samples", "means", "scatters")

    @staticmethod
    @abstractmethod
    def similarity(cross: Cross) -> float:
        """Of two sides that vary."""

    @override
    def uses(self, part: Part) -> bool:
        return part in self.parts

    @override
    def update(self, part: Part, labels: Tensor, mine: Tensor, other: Tensor) -> None:
        if not self.uses(part) and len(self.samples):
            return
        x, y = paired_rows(part, mine=mine, other=other, width=self.num_features)
        # A part that is not compared still leaves an empty state: a rank with an empty list cannot
        # be gathered.
        width = x.shape[1] + y.shape[1]
        sides = list(
            self._sides() or (empty_moments(width, x.device), empty_moments(width, x.device))
        )
        if self.uses(part) and len(x):
            side = self.parts.index(part)
            sides[side] = merge(sides[side], moments(torch.cat([x, y], dim=1)))
        self.samples, self.means, self.scatters = (
            [torch.stack(column).unsqueeze(0)] for column in zip(*sides, strict=True)
        )

    @override
    def values(self) -> dict[str, float | str]:
        sides = self._sides() or (None, None)
        stems = zip(self.kinds, self.parts, sides, strict=True)
        return {stem: self._value(part, side) for stem, part, side in stems}

    def _value(self, part: Part, side: Moments | None) -> float | str:
        seen = 0 if side is None else int(side.samples)
        few = too_few(**{part: seen})
        if side is None or few:
            # Two samples always have similarity 1: the fewer, the more alike unrelated features
            # look.
            return few
        d = self.num_features
        for model, own in (("this model", slice(0, d)), ("the other model", slice(d, None))):
            if is_constant(
                samples=seen, energy=float(side.scatter.diagonal()[own].sum()), mean=side.mean[own]
            ):
                return (
                    f"part {part}: the features of {model} do not vary over the {seen} "
                    "samples, so a similarity is not defined"
                )
        return self.similarity(
            Cross(side.scatter[:d, :d], side.scatter[d:, d:], side.scatter[:d, d:], seen)
        )

    def _sides(self) -> tuple[Moments, Moments] | None:
        """The moments of both sides over all shards; None before the first batch."""
        if len(self.samples) == 0:
            return None
        shards = zip(
            joined_state(self.samples),
            joined_state(self.means),
            joined_state(self.scatters),
            strict=True,
        )
        per_shard = [
            [Moments(n[side], mean[side], scatter[side]) for side in (0, 1)]
            for n, mean, scatter in shards
        ]
        forget, retain = per_shard[0]
        for shard in per_shard[1:]:
            forget, retain = merge(forget, shard[0]), merge(retain, shard[1])
        return forget, retain


class LinearCKA(_Similarity):
    """`cka_forget`, `cka_retain`: linear centred kernel alignment of two models' features.

    cka_forget is on test_forget where classes are gone as a whole, and on the forget set in other
    requests, which have no held-out counterpart; cka_retain is on test_retain. ‖C_xy‖²_F /
    (‖C_xx‖_F ‖C_yy‖_F), see `linear_cka`; no unit, in [0, 1], and 1 for features that are equal up
    to an orthogonal map, a common scale and a shift. better = "reference". The trace of cka_forget
    is "both". Against the original, a trace shows above the value of the retrained models, and
    over-forgetting below it. Against an oracle, a value below that among the oracles says only that
    they differ. cka_retain is utility and has no trace.

    CKA weighs directions by their variance squared, so it follows the few largest. It is biased
    upwards if samples are fewer than dimensions (arXiv 2405.01012), so compare only values from
    equally many samples.

    Not applicable: fewer than 10 samples, or features that do not vary. That is the trap of this
    metric. A model that collapses the forget set to one point has no variance there. A CKA of what
    rounding leaves would be small and read as "forgotten".

    Raises:
        EigenforgetError: A feature is not finite, or rows do not pair up.

    Source: arXiv 1905.00414.
    """

    name: ClassVar[str] = "linear_cka"
    kinds: ClassVar[Mapping[str, ComparisonKind]] = {"cka_forget": _FORGET, "cka_retain": _RETAIN}
    similarity = staticmethod(linear_cka)


class Procrustes(_Similarity):
    """`procrustes_forget`, `procrustes_retain`: Procrustes similarity of two models' features.

    ‖C_xy‖_* / √(tr C_xx · tr C_yy) = 1 − d²/2, see `procrustes_similarity`; no unit, in [0, 1], and
    1 for features that are equal up to an orthogonal map, a common scale and a shift. Samples,
    direction and reasons are those of LinearCKA. It weighs directions by variance, not by its
    square, and so sees differences in small directions that CKA misses (arXiv 2108.01661).
    Deviation: a similarity in place of their distance, so that it reads like CKA.
    """

    name: ClassVar[str] = "procrustes"
    kinds: ClassVar[Mapping[str, ComparisonKind]] = {
        "procrustes_forget": _FORGET,
        "procrustes_retain": _RETAIN,
    }
    similarity = staticmethod(procrustes_similarity)


def is_constant(*, samples: int, energy: float, mean: Tensor) -> bool:
    """Whether rows spread no further than rounding in float32 would.

    Args:
        samples: Number of rows.
        energy: Their centred energy Σ‖x−μ‖².
        mean: μ [D].
    """
    return math.sqrt(energy / samples) <= RESOLUTION * float(torch.linalg.vector_norm(mean))


def checked_features(part: Part, features: Tensor, *, width: int | None = None) -> Tensor:
    """The detached features [B, D], in float32 at least.

    Raises:
        EigenforgetError: The shape or the width is another, or a value is not finite.
    """
    if features.ndim != 2 or width not in (None, features.shape[1]):
        raise EigenforgetError(
            f"part {part}: features must be [B, {width or 'D'}], got {list(features.shape)}"
        )
    if not all_finite(features):
        raise EigenforgetError(
            f"part {part}: the model's features are not finite; scores need numbers"
        )
    return features.detach().to(torch.promote_types(features.dtype, torch.float32))


def paired_rows(part: Part, *, mine: Tensor, other: Tensor, width: int | None = None) -> PairedRows:
    """Both models' features [B, D] and [B, E] in float64 on one device.

    Raises:
        EigenforgetError: As in checked_features, or rows do not pair up.
    """
    x, y = (
        checked_features(part, mine, width=width).double(),
        checked_features(part, other).double().to(mine.device),
    )
    if len(x) != len(y):
        raise EigenforgetError(
            f"part {part}: {len(x)} rows of features cannot be paired with {len(y)} of the other "
            "model"
        )
    return PairedRows(x, y)


def joined_state(state: list[Tensor] | Tensor) -> Tensor:
    """A list state as one tensor, gathered or not; it must hold something."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def state_rows(state: list[Tensor] | Tensor, *width: int) -> np.ndarray:
    """A list state as one array, of shape [0, *width] where it holds nothing."""
    return joined_state(state).cpu().numpy() if len(state) else np.empty((0, *width))
