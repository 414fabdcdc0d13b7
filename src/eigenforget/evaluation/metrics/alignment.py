"""Dimensional alignment as a streaming torchmetrics.Metric, and its entry in the panel."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, ClassVar, Literal, get_args

import torch
import torchmetrics
from torch import Tensor
from typing_extensions import override

from eigenforget.alignment import (
    Centering,
    Eigenspace,
    Form,
    Moments,
    alignment_curve,
    alignment_influence,
    empty_moments,
    leading,
    merge,
    moments,
)
from eigenforget.core.bands import Z95
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs, Part, Score
from eigenforget.evaluation.metrics.accuracy import Interval, interval_around
from eigenforget.evaluation.metrics.panel import PanelMetric, too_few
from eigenforget.evaluation.metrics.similarity import joined_state
from eigenforget.evaluation.series import short


class DimensionalAlignment(torchmetrics.Metric):
    """DA_k(forget | retain) for every k, from a stream of features.

    `update(features [B, D], is_forget [B])`; `compute()` gives float64 [K], whose entry k−1 is
    DA_k, in [0, 1] without unit. The target is the value of the retrained model. The state is the
    float64 moments of both sides. Memory is O(D²) whatever the number of samples, and any order,
    batching or sharding gives the same result to rounding.

    Args:
        num_features: D, at least 2.
        form: "frobenius" or "energy", see `eigenforget.alignment.alignment_curve`.
        centering: "none" or "each".
        kwargs: Arguments of torchmetrics.Metric.

    Raises:
        EigenforgetError: An argument is wrong.

    Source: arXiv 2407.17710.
    """

    full_state_update = False
    higher_is_better = None
    packed: Tensor

    def __init__(
        self,
        num_features: int,
        form: Form = "frobenius",
        centering: Centering = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_features < 2:
            raise EigenforgetError(
                f"num_features = {num_features} must be at least 2, so that k = 1 is below it"
            )
        if form not in ("frobenius", "energy") or centering not in ("none", "each"):
            raise EigenforgetError(
                f"form {form!r} is frobenius or energy, centering {centering!r} is none or each"
            )
        self.num_features, self.form, self.centering = num_features, form, centering
        self.add_state("packed", _nothing(num_features), dist_reduce_fx=_merge_packed)

    def update(self, features: Tensor, is_forget: Tensor) -> None:
        """Adds rows of features.

        Args:
            features: [B, D].
            is_forget: [B], true where the row is of the forget set.

        Raises:
            EigenforgetError: A shape is wrong, or a feature is NaN.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise EigenforgetError(
                f"features must be [B, {self.num_features}], got {list(features.shape)}"
            )
        if is_forget.shape != features.shape[:1]:
            raise EigenforgetError(
                f"is_forget must be [{len(features)}], got {list(is_forget.shape)}"
            )
        self.packed = _added(self.packed, features, is_forget.bool())

    @override
    def compute(self) -> Tensor:
        return self.curve(self.form, self.centering)

    def curve(self, form: Form, centering: Centering) -> Tensor:
        """The curve in another form or centering, from the same state."""
        forget, retain = self.sides()
        return alignment_curve(forget, retain, form=form, centering=centering)

    def sides(self) -> tuple[Moments, Moments]:
        """The moments of the forget and of the retain features seen so far."""
        return _sides(self.packed)


class PanelAlignment(PanelMetric):
    """`da` and `da_energy`: DA of the forget set at k = number of retained classes.

    Of the training features, uncentred; `da` is the Frobenius form, `da_energy` the energy form. No
    unit, in [0, 1]. Features of data that a model never saw lie close to the manifold of the data
    that it saw. So a retrained model has a high DA, and a value above it is not better (better =
    "reference"). For random requests DA is a null control. It does not depend on the scale of the
    features or on a rotation, but it does depend on a shift. The interval is that of the
    infinitesimal jackknife over the forget samples, whose features are kept for it. It covers
    neither the draw of the retain samples nor the training run.

    Not applicable: fewer than 10 samples on a side, k beyond the last k at which DA is defined for
    these features.
    """

    name: ClassVar[str] = "dimensional_alignment"
    reads: ClassVar[Literal["logits", "features"]] = "features"
    packed: Tensor
    rows: list[Tensor]

    def __init__(self, num_features: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_rows("rows")
        self.add_state("packed", _nothing(num_features), dist_reduce_fx=_merge_packed)
        self._spaces: dict[tuple[int, Centering], Eigenspace] = {}
        self._spaces_of: Tensor | None = None

    @override
    def uses(self, part: Part) -> bool:
        return part in ("forget", "retain")

    @override
    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        if self.uses(part):
            side = torch.full(
                (len(batch.labels),), part == "forget", device=outputs.features.device
            )
            self.packed = _added(self.packed, outputs.features, side)
        # Typed empty rows of other parts: a rank with an empty list cannot be gathered.
        taken = slice(None) if part == "forget" else slice(0)
        self.rows.append(outputs.features[taken].detach().clone())

    @override
    def measure(self) -> tuple[Score, ...]:
        basis = None
        with suppress(EigenforgetError):
            retain = self.sides()[1]
            basis = leading(self._space(1), self.k, samples=int(retain.samples))
        return self._score("da", "frobenius", basis), self._score("da_energy", "energy", basis)

    def sides(self) -> tuple[Moments, Moments]:
        """The moments of the forget and of the retain features seen so far."""
        return _sides(self.packed)

    @override
    def series(self) -> dict[str, Any]:
        """DA curves in both forms and centerings, and the spectra of both sides."""
        forget, retain = self.sides()
        curves: dict[str, list[float]] = {}
        for centering in get_args(Centering):
            for form in get_args(Form):
                # Constant features have no centred eigenspace: the score says so, and the figure
                # leaves the curve out.
                with suppress(EigenforgetError):
                    curve = alignment_curve(
                        forget,
                        retain,
                        form=form,
                        centering=centering,
                        space=self._space(1, centering),
                    )
                    curves[f"{form}_{centering}"] = short(curve.cpu().numpy())
        # Centring can lower the rank, and with it the last k; one axis of k serves all curves.
        last = min((len(curve) for curve in curves.values()), default=0)
        cut = {name: curve[:last] for name, curve in curves.items()}
        axis = {"k": list(range(1, last + 1)), "headline_k": self.k}
        return {
            "da_curve": {**axis, **cut} if last else {},
            "spectrum": {"forget": self._spectrum(0), "retain": self._spectrum(1)},
        }

    def _space(self, side: int, centering: Centering = "none") -> Eigenspace:
        """The eigenspace of the forget side (0) or the retain side (1), made once for each state.

        Decompositions are nearly all of the time beyond the moments, and eight numbers and curves
        read the same three.
        """
        if self._spaces_of is not self.packed:  # other rows, or those of all ranks
            self._spaces, self._spaces_of = {}, self.packed
        if (side, centering) not in self._spaces:
            self._spaces[side, centering] = self.sides()[side].space(centering)
        return self._spaces[side, centering]

    def _spectrum(self, side: int) -> list[float]:
        """Uncentred eigenvalues in descending order, as shares of their sum."""
        try:
            values = self._space(side).values
        except EigenforgetError:
            return []
        return short((values / values.sum()).cpu().numpy())

    def _score(self, name: str, form: Form, basis: Tensor | None) -> Score:
        value, reason, space = None, "", None
        low, high = None, None
        try:
            forget, retain = self.sides()
            if few := too_few(forget=int(forget.samples), retain=int(retain.samples)):
                raise EigenforgetError(few)
            with suppress(EigenforgetError):  # the curve says what is wrong, forget side first
                space = self._space(1)
            curve = alignment_curve(forget, retain, form=form, space=space)
        except EigenforgetError as error:
            reason = str(error)
        else:
            if self.k <= len(curve):
                value = float(curve[self.k - 1])
                if basis is not None:
                    low, high = self._interval(value, form, basis)
            else:
                reason = (
                    f"k = {self.k} is too large: for these features DA is defined only up to "
                    f"k = {len(curve)}"
                )
        span = (0.0, 1.0)
        return Score(name, value, "1", "reference", span, low, high, reason, trace="below")

    def _interval(self, value: float, form: Form, basis: Tensor) -> Interval:
        rows = joined_state(self.rows)
        found = alignment_influence(rows, self.sides()[0], basis, form=form)
        # n − 1: with equal weights the jackknife is that much too narrow.
        error = math.sqrt(float(found.square().sum()) * len(rows) / (len(rows) - 1))
        return interval_around(value, half=Z95 * error)


def _nothing(width: int) -> Tensor:
    """The state [2, 1+D+D²] of no samples: forget, then retain."""
    none = _pack(empty_moments(width))
    return torch.stack([none, none])


def _pack(m: Moments) -> Tensor:
    return torch.cat([m.samples.reshape(1), m.mean, m.scatter.flatten()])


def _unpack(row: Tensor) -> Moments:
    # 1 + D + D² = length  =>  D
    d = int((4 * len(row) - 3) ** 0.5 - 1) // 2
    return Moments(row[0], row[1 : d + 1], row[d + 1 :].reshape(d, d))


def _sides(packed: Tensor) -> tuple[Moments, Moments]:
    return _unpack(packed[0]), _unpack(packed[1])


def _added(packed: Tensor, features: Tensor, is_forget: Tensor) -> Tensor:
    """A new state with these feature rows added to their sides."""
    rows = features[is_forget], features[~is_forget]
    sides = zip(_sides(packed), rows, strict=True)
    return torch.stack([_pack(merge(old, moments(new)) if len(new) else old) for old, new in sides])


def _merge_packed(stacked: Tensor) -> Tensor:
    """Merges states [ranks, 2, 1+D+D²] in rank order into [2, 1+D+D²]."""
    sides = []
    for side in range(2):
        total = _unpack(stacked[0, side])
        for rank in stacked[1:, side]:
            total = merge(total, _unpack(rank))
        sides.append(_pack(total))
    return torch.stack(sides)
