"""Near duplicates: samples of the retain set that nearly equal samples of the forget set.

They are a reason to warn, never an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.text import counted, listed
from eigenforget.data.sources import Source
from eigenforget.experiments.experiment import Experiment

_MOST_PAIRS = 1000
"""Pairs that are listed; a record of every pair would hold millions where the threshold is too low.
"""
_BLOCK = 2048
"""Rows of each side at a time: 32 MiB of cosines."""
_DECIMALS = 12
"""Cosines are rounded to these, so that the order of summation in a matrix product decides no tie.
"""


class DuplicatePair(NamedTuple):
    """Ids of a forget and a retain sample, and the cosine of their features."""

    forget: str
    retain: str
    cosine: float


class NearDuplicates(NamedTuple):
    """The pairs that were found.

    Attributes:
        pairs: At most 1,000, nearest first.
        total: How many there are.
        samples: How many samples of the forget set are in one of them.
    """

    pairs: list[DuplicatePair]
    total: int
    samples: int

    @property
    def line(self) -> str:
        """One line that names the first ids; "" where there are no pairs."""
        if not self.pairs:
            return ""
        shown = [f"{p.forget} ~ {p.retain} ({p.cosine:.4f})" for p in self.pairs[:10]]
        more = f", … ({self.total} pairs in all)" if self.total > len(shown) else ""
        return f"{self._have()}: {', '.join(shown)}{more}"

    @property
    def doubt(self) -> str:
        """The line of a warning, which names no id and says where they are; "" for no pairs."""
        if not self.pairs:
            return ""
        return (
            f"{self._have()}, from which the model may know them still; job.near_duplicates of the "
            "record has the pairs, and `eigenforget duplicates` prints them"
        )

    def _have(self) -> str:
        have = counted(
            self.samples, "sample of the forget set has", "samples of the forget set have"
        )
        return f"{have} near duplicates in the retain set"


class _Side(NamedTuple):
    """Unit features [N, D] and ids [N], in the order of the ids.

    Features that are all zero have no direction and are left out.
    """

    units: np.ndarray
    ids: np.ndarray


def near_duplicates(
    features_forget: np.ndarray,
    *,
    features_retain: np.ndarray,
    ids_forget: Sequence[str] | np.ndarray,
    ids_retain: Sequence[str] | np.ndarray,
    threshold: float = 0.98,
    k: int = 1,
) -> NearDuplicates:
    """Pairs (f, r) with cos(f, r) = ⟨f, r⟩ / (‖f‖ ‖r‖) ≥ threshold, in float64.

    Nearest first, ties by id, whatever the order of the samples. Nothing is centred. Features with
    a large common mean are all near each other, and those of a classifier that was trained to the
    end nearly coincide within a class. Raw inputs, or features of a model that was not trained on
    these labels, tell copies from classmates.

    Args:
        features_forget: Features [N_f, D] of the forget set.
        features_retain: Features [N_r, D] of the retain set.
        ids_forget: Ids [N_f].
        ids_retain: Ids [N_r].
        threshold: The least cosine of a pair.
        k: r is among the k retain samples that are nearest to f.

    Raises:
        EigenforgetError: Shapes do not fit, ids are repeated, features are not finite (the ids are
            named), the threshold is outside (0, 1], or k is below 1.
    """
    check_threshold(threshold)
    if k < 1:
        raise EigenforgetError(f"k {k} must be at least 1")
    forget = _side(features_forget, ids_forget, "forget")
    retain = _side(features_retain, ids_retain, "retain")
    if forget.units.shape[1] != retain.units.shape[1]:
        raise EigenforgetError(
            f"forget features have {forget.units.shape[1]} columns and retain features "
            f"{retain.units.shape[1]}"
        )
    return _searched(forget, retain, threshold=threshold, k=k)


def check_threshold(threshold: float) -> None:
    """Checks that it is a cosine of which there may be pairs.

    Raises:
        EigenforgetError: It is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise EigenforgetError(f"threshold {threshold} must be above 0 and at most 1")


def _searched(forget: _Side, retain: _Side, *, threshold: float, k: int) -> NearDuplicates:
    found: list[DuplicatePair] = []
    for start in range(0, len(forget.ids), _BLOCK):
        block = _Side(forget.units[start : start + _BLOCK], forget.ids[start : start + _BLOCK])
        found += _pairs(block, retain, threshold=threshold, k=k)
    return _nearest_first(found)


def _nearest_first(found: list[DuplicatePair]) -> NearDuplicates:
    found.sort(key=lambda pair: (-pair.cosine, pair.forget, pair.retain))
    return NearDuplicates(found[:_MOST_PAIRS], len(found), len({pair.forget for pair in found}))


def _pairs(forget: _Side, retain: _Side, *, threshold: float, k: int) -> list[DuplicatePair]:
    """Pairs of one block of forgotten samples with all retained ones."""
    best = np.full((len(forget.ids), k), -np.inf)
    where = np.zeros((len(forget.ids), k), dtype=np.int64)
    for start in range(0, len(retain.ids), _BLOCK):
        cosines = np.round(forget.units @ retain.units[start : start + _BLOCK].T, _DECIMALS).clip(
            -1, 1
        )
        near = np.flatnonzero((cosines >= threshold).any(axis=1))  # few rows: only these are sorted
        values = np.hstack([best[near], cosines[near]])
        columns = np.hstack(
            [
                where[near],
                np.broadcast_to(
                    np.arange(start, start + cosines.shape[1]), (len(near), cosines.shape[1])
                ),
            ]
        )
        # Stable, and the retained samples come in the order of their ids: among equals the smaller
        # id stays.
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        best[near], where[near] = (
            np.take_along_axis(values, order, 1),
            np.take_along_axis(columns, order, 1),
        )
    rows, ranks = np.nonzero(best >= threshold)
    return [
        DuplicatePair(str(forget.ids[r]), str(retain.ids[where[r, c]]), float(best[r, c]))
        for r, c in zip(rows, ranks, strict=True)
    ]


def _side(
    features: np.ndarray,
    ids: Sequence[str] | np.ndarray,
    name: str,
    number: type[np.floating[Any]] = np.float64,
) -> _Side:
    wide, names = np.asarray(features, dtype=number), np.asarray(ids).astype(np.str_)
    if wide.ndim != 2 or names.shape != (len(wide),):
        raise EigenforgetError(
            f"{name} features must be [N, D] with one id each, got {list(wide.shape)} and "
            f"{names.size} ids"
        )
    if len(np.unique(names)) != len(names):
        raise EigenforgetError(f"{name} ids must be unique")
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        raise EigenforgetError(f"{name} features are not finite: {listed(names[bad])}")
    # Largest entry first: the squares of huge or tiny features would overflow or vanish.
    largest = np.maximum(wide.max(axis=1, initial=0.0), -wide.min(axis=1, initial=0.0))
    order = np.argsort(names, kind="stable")
    order = order[largest[order] > 0]
    scaled = wide[order] / largest[order, None]
    return _Side(scaled / np.linalg.norm(scaled, axis=1, keepdims=True), names[order])


_WIDTH = 256
"""Wider inputs are searched in a random projection of this width; what is found is checked."""
_SLACK = 0.02
"""The projection's cosine of a pair at 0.98 is off by about (1 − 0.98²) / √256 = 0.0025."""
_BLOCK_NUMBERS = 1 << 23
"""Of wide inputs in memory at a time: 64 MiB, beside 1 KiB for the projection of each sample."""
_NARROW = 32
"""Numbers of an input below which a cosine says little. In 31 random ones 0.98 is never reached by
chance, but columns of a table go together: of six, 13 pairs of different people reached it."""
_MANY = 50_000_000
"""Pairs of samples beyond which a command does not search unasked: seconds up to here."""


def similar_inputs(experiment: Experiment, threshold: float = 0.98) -> NearDuplicates:
    """Each forget sample with its nearest retain sample, by the cosine of the inputs.

    Exact copies are no warning but an error of the request, unless it says duplicates="forget".

    Raises:
        EigenforgetError: Inputs are not one tensor of real numbers.
    """
    split, ids = experiment.split, experiment.data.train_index.ids
    sides, names = (experiment.forget, experiment.retain), (ids[split.forget], ids[split.retain])
    normalisation = experiment.data.normalisation
    # Pixels that are all positive have a large common mean.
    shifted = normalisation is not None and normalisation.normalize != "train"
    width = next(_blocks(experiment.retain, 1)).shape[1]
    if width <= _WIDTH:
        forget, retain = (np.concatenate(list(_blocks(side))) for side in sides)
        mean = retain.mean() if shifted else 0.0
        return near_duplicates(
            forget - mean,
            features_retain=retain - mean,
            ids_forget=names[0],
            ids_retain=names[1],
            threshold=threshold,
        )
    size = min(max(_BLOCK_NUMBERS // width, 1), 1024)
    mean = _mean(_blocks(experiment.retain, size)) if shifted else 0.0
    near = _projected_pairs(sides, names, width, size, mean, max(threshold - _SLACK, 0.01))
    wanted = {p.forget for p in near.pairs}, {p.retain for p in near.pairs}
    rows = [_named_rows(*each, size) for each in zip(sides, names, wanted, strict=True)]
    exact = []
    for f, r, _ in near.pairs:
        x, y = rows[0][f] - mean, rows[1][r] - mean
        exact.append(DuplicatePair(f, r, float(x @ y / np.sqrt((x @ x) * (y @ y)))))
    return _nearest_first([pair for pair in exact if pair.cosine >= threshold])


def _projected_pairs(
    sides: Sequence[Source],
    names: Sequence[np.ndarray],
    width: int,
    size: int,
    mean: float,
    threshold: float,
) -> NearDuplicates:
    """Nearest pairs in a random projection, of which alone all samples are held, in float32."""
    rng = np.random.default_rng(derive(0, "twins"))
    projection = rng.standard_normal((width, _WIDTH)) / np.sqrt(_WIDTH)
    found = []
    for side, own, what in zip(sides, names, ("forget", "retain"), strict=True):
        blocks = [((b - mean) @ projection).astype(np.float32) for b in _blocks(side, size)]
        found.append(_side(np.concatenate(blocks), own, what, np.float32))
    return _searched(*found, threshold=threshold, k=1)


def _named_rows(
    source: Source, names: np.ndarray, wanted: set[str], size: int
) -> dict[str, np.ndarray]:
    """The inputs of some samples, from a further pass over the source."""
    found, start = {}, 0
    for block in _blocks(source, size):
        for name, row in zip(names[start : start + len(block)], block, strict=True):
            if str(name) in wanted:
                found[str(name)] = row.copy()  # a view would keep the whole block
        start += len(block)
    return found


def _mean(blocks: Iterator[np.ndarray]) -> float:
    sums = [(float(block.sum()), block.size) for block in blocks]
    return math.fsum(total for total, _ in sums) / sum(size for _, size in sums)


def is_narrow(experiment: Experiment) -> bool:
    """Whether inputs have so few numbers that those of other samples are near by chance."""
    return int(next(_blocks(experiment.retain, 1)).shape[1]) < _NARROW


def worth_a_search(experiment: Experiment) -> bool:
    """Whether a command searches without being asked: there are not too many pairs of samples.

    Nor are inputs narrow, and they are one tensor of real numbers.
    """
    inputs = next(experiment.forget.batches(1)).inputs
    real = isinstance(inputs, Tensor) and inputs.is_floating_point()
    pairs = len(experiment.split.forget) * len(experiment.split.retain)
    return real and pairs <= _MANY and not is_narrow(experiment)


def _blocks(source: Source, size: int = 1024) -> Iterator[np.ndarray]:
    """The inputs as rows in float64, some at a time."""
    for batch in source.batches(size):
        if not isinstance(batch.inputs, Tensor) or not batch.inputs.is_floating_point():
            raise EigenforgetError(
                "near duplicates are looked for in inputs that are one tensor of real numbers, "
                "such as images"
            )
        yield batch.inputs.flatten(1).cpu().numpy().astype(np.float64)
