"""RULER: are forget samples further from their place than retained ones, or still among them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from eigenforget.core.bands import Z95
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.types import Batch, Outputs, Part, Score
from eigenforget.evaluation.metrics.accuracy import interval_around, missing_share, share_score
from eigenforget.evaluation.metrics.paired import Against, ComparisonKind, PairedMetric
from eigenforget.evaluation.metrics.panel import PanelMetric, no_samples, too_few
from eigenforget.evaluation.metrics.similarity import (
    checked_features,
    is_constant,
    joined_state,
    paired_rows,
    state_rows,
)

_SIDES: tuple[Part, Part] = ("forget", "retain")
CAPS: Mapping[str, int] = {"forget": 2_000, "retain": 5_000}
"""Most samples of a side that M4 uses: 25 million cosines for the null, and a standard deviation of
0.006 for the mean rank.
"""

_WHOLE_CLASS = (
    "for single samples; a class that is gone as a whole lies apart in what knows it, and among the"
    " others in what never saw it"
)
BLOCK = 512
DECIMALS = 12
"""Cosines are ranked to this many decimals, so that equal ones stay equal in any order."""


class _Samples(NamedTuple):
    """features [n, D] and positions [n]."""

    features: Tensor
    positions: Tensor


class RulerM2(PairedMetric):
    """`ruler_m2`: mean over forget of cos(h, h') minus the median over retain, h' an oracle's.

    On the training samples of both sides; no unit, in [−2, 2]. 0 where forgotten and retained
    samples agree with the oracle equally well. Below 0 forgotten samples agree less: they are not
    where a retrained model puts them (trace "below"). Above 0 they are over-corrected. better =
    "reference". Cosines compare coordinates, so they mean something only where the oracle shares
    the original's initialisation. In the source they are about .99 for paired and .44 for unpaired
    models. The band of the oracles among each other tells which of the two it is. The state is one
    cosine per sample.

    Not applicable: fewer than 10 samples on a side, widths that differ, feature vectors that are
    zero (they have no cosine, and leaving them out would flatter a collapsed model).

    Raises:
        EigenforgetError: As in similarity.paired_rows.

    Source: RULER (gcosma/RULER); the score M2 without its mixed-effects model.
    """

    name: ClassVar[str] = "ruler_m2"
    reads: ClassVar[Literal["logits", "features"]] = "features"
    against: ClassVar[tuple[Against, ...]] = ("oracle",)
    kinds: ClassVar[Mapping[str, ComparisonKind]] = {
        "ruler_m2": ComparisonKind("1", (-2.0, 2.0), "reference", "below")
    }
    forget: list[Tensor]
    retain: list[Tensor]
    zeros: Tensor
    widths: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_rows(*_SIDES)
        self.add_sums(zeros=torch.zeros(2, dtype=torch.int64))
        self.add_state("widths", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="max")

    @override
    def uses(self, part: Part) -> bool:
        return part in _SIDES

    @override
    def update(self, part: Part, labels: Tensor, mine: Tensor, other: Tensor) -> None:
        cosines = torch.empty(0, dtype=torch.float64, device=mine.device)
        if self.uses(part):
            x, y = paired_rows(part, mine=mine, other=other)
            widths = self.widths.new_tensor([x.shape[1], y.shape[1]])
            self.widths = torch.maximum(self.widths, widths)
            nonzero = (x.abs().amax(dim=1) > 0) & (y.abs().amax(dim=1) > 0)
            if not nonzero.all():  # else they need not be copied
                x, y = x[nonzero], y[nonzero]
                self.zeros[_SIDES.index(part)] += (~nonzero).sum()
            cosines = row_cosines(x, y) if x.shape[1] == y.shape[1] else cosines
        for side in _SIDES:
            # A side without rows still gets a typed empty one: a rank with an empty list cannot be
            # gathered.
            getattr(self, side).append(cosines if part == side else cosines[:0])

    @override
    def values(self) -> dict[str, float | str]:
        return {"ruler_m2": self._value()}

    def _value(self) -> float | str:
        mine, other = self.widths.tolist()
        if mine != other:
            return (
                f"features have width {mine} here and {other} in the other model, and cosines "
                "need one width"
            )
        # Sorted, so that the order of the samples changes no bit of the sums.
        forget, retain = (np.sort(state_rows(state)) for state in (self.forget, self.retain))
        zeros = self.zeros.tolist()
        if any(zeros):
            seen = len(forget) + zeros[0], len(retain) + zeros[1]
            return (
                f"{zeros[0]} of {seen[0]} forget and {zeros[1]} of {seen[1]} retain feature "
                "vectors are zero: they have no cosine"
            )
        if few := too_few(forget=len(forget), retain=len(retain)):
            return few
        return float(forget.mean() - np.median(retain))


class RulerM4(PanelMetric):
    """`ruler_m4`: how high a forget sample's nearest retained neighbour ranks.

    It needs no oracle. For each forget sample the largest cosine to a retain sample, as its
    percentile rank (mid-rank for ties) within the largest cosines of the retain samples to each
    other (leave-one-out); mean over forget. Cosines are of features minus the mean of the retain
    features, so that a shift that the head undoes changes nothing. A share in [0, 1], 0.5 where
    forgotten samples lie among the retained ones as these do among themselves. Above it they are
    closer, a residue of training (trace "above"); below it they are displaced too far. better =
    "reference".

    The interval is ± 1.96 / √(12 n), cut to [0, 1]: what a mean of n independent uniform ranks
    varies by. It covers the draw of the forget samples where the ranks spread at most uniformly,
    not the draw of the retained ones or the training run. At most 2,000 forget and 5,000 retain
    samples are used: those whose positions have the smallest seeded hash, so that order and shards
    do not matter. Memory is O(cap·D), time O(cap²·D).

    Not applicable: fewer than 10 samples on a side, constant retain features, samples at their very
    mean; classes that are gone as a whole. A model that knows such a class keeps it apart from the
    others, and one that never saw it puts it among them. The residue would lie below (as it does on
    CIFAR-10), and `ncm_forget` and `da` tell the same better.

    Raises:
        EigenforgetError: A feature is not finite, or a sample is given twice.

    Source: RULER (gcosma/RULER), for single samples; the caps and the centring are ours.
    """

    name: ClassVar[str] = "ruler_m4"
    reads: ClassVar[Literal["logits", "features"]] = "features"

    def __init__(self, seed: int, forgotten_classes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.seed, self.forgotten_classes = seed, tuple(forgotten_classes)
        for side in _SIDES:
            self.add_rows(f"{side}_features", f"{side}_positions")

    @override
    def uses(self, part: Part) -> bool:
        return part in _SIDES and not self.forgotten_classes

    @override
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        features = checked_features(part, outputs.features)
        positions = batch.positions.to(features.device, torch.int64)
        for side in _SIDES:
            # A side without rows still gets typed empty ones: a rank with an empty list cannot be
            # gathered.
            rows = slice(None) if part == side else slice(0)
            kept = self._state(side, "features"), self._state(side, "positions")
            kept[0].append(features[rows].clone())
            kept[1].append(positions[rows].clone())
            # Only now and then, so that each row is copied a bounded number of times.
            if sum(map(len, kept[1])) > 2 * CAPS[side]:
                for state, left in zip(kept, self._chosen(side), strict=True):
                    state[:] = [left]

    @override
    def measure(self) -> tuple[Score, ...]:
        if self.forgotten_classes:
            return (missing_share("ruler_m4", reason=_WHOLE_CLASS),)
        if not len(self._state("forget", "positions")):
            return (missing_share("ruler_m4", reason=no_samples("forget")),)
        sides = [self._chosen(side) for side in _SIDES]
        counts = [len(positions) for _, positions in sides]
        if few := too_few(forget=counts[0], retain=counts[1]):
            return (missing_share("ruler_m4", reason=few),)
        centre = sides[1].features.double().mean(dim=0)
        rows = [features.double() - centre for features, _ in sides]
        if is_constant(samples=counts[1], energy=float(rows[1].square().sum()), mean=centre):
            return (missing_share("ruler_m4", reason="the retain features are constant"),)
        zeros = [int((~features.any(dim=1)).sum()) for features in rows]
        if any(zeros):
            found = f"{zeros[0]} of {counts[0]} forget and {zeros[1]} of {counts[1]} retain"
            said = (
                f"{found} feature vectors are the mean of the retain features: they have no cosine"
            )
            return (missing_share("ruler_m4", reason=said),)
        forget, retain = (torch.nn.functional.normalize(r, dim=1, eps=0.0) for r in rows)
        null = nearest_cosines(retain, among=retain, leave_one_out=True)
        value = float(mid_ranks(nearest_cosines(forget, among=retain), among=null).mean())
        half = Z95 / math.sqrt(12 * counts[0])
        return (share_score("ruler_m4", value, interval_around(value, half=half)),)

    def _state(self, side: Part, what: str) -> list[Tensor]:
        state: list[Tensor] = getattr(self, f"{side}_{what}")
        return state

    def _chosen(self, side: Part) -> _Samples:
        """At most CAPS[side] samples, in order of position."""
        features, positions = (
            joined_state(self._state(side, what)) for what in ("features", "positions")
        )
        index = positions.cpu().numpy()
        if len(np.unique(index)) != len(index):
            values, counts = np.unique(index, return_counts=True)
            raise EigenforgetError(
                f"ruler_m4: position {values[counts > 1][0]} of part {side} was given more than "
                "once"
            )
        smallest = np.argsort(hashed(index, derive(self.seed, "ruler_m4", side)))[: CAPS[side]]
        rows = torch.from_numpy(smallest[np.argsort(index[smallest])]).to(features.device)
        return _Samples(features[rows], positions[rows])


def row_cosines(x: Tensor, y: Tensor) -> Tensor:
    """cos(x_i, y_i) [N] of non-zero float64 rows [N, D], exactly 1 for equal rows."""
    # √(a·a) is a to the bit, where √a·√a is not.
    norms = (x.square().sum(dim=1) * y.square().sum(dim=1)).sqrt()
    return ((x * y).sum(dim=1) / norms).clamp(-1.0, 1.0)


def nearest_cosines(rows: Tensor, *, among: Tensor, leave_one_out: bool = False) -> np.ndarray:
    """The largest inner product [N] float64 of each unit row with the unit rows `among`.

    With leave_one_out, with the others of the same rows.
    """
    best = []
    for start in range(0, len(rows), BLOCK):
        cosines = rows[start : start + BLOCK] @ among.T
        if leave_one_out:
            cosines.diagonal(offset=start).fill_(-torch.inf)
        best.append(cosines.max(dim=1).values)
    return torch.cat(best).cpu().numpy()


def mid_ranks(values: np.ndarray, *, among: np.ndarray) -> np.ndarray:
    """Share of `among` below each value plus half the share equal to it, [N] in [0, 1].

    Values are equal that agree in 12 decimals.
    """
    values, among = np.round(values, DECIMALS), np.sort(np.round(among, DECIMALS))
    below, up_to = (
        np.searchsorted(among, values, side="left"),
        np.searchsorted(among, values, side="right"),
    )
    return (below + up_to) / (2 * len(among))


def hashed(positions: np.ndarray, seed: int) -> np.ndarray:
    """SplitMix64 of the positions [N] int64: uint64 numbers, distinct where positions are."""
    z = (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
        seed
    )
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
