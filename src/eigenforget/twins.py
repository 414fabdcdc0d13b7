"""Retained samples that are almost forgotten ones, found in the raw inputs of a job's data."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from eigenforget.jobs import Experiment
from eigenforget.neighbours import NearDuplicates, Pair, near_duplicates
from eigenforget.seeds import derive
from eigenforget.sources import Source
from eigenforget.types import EigenforgetError

WIDTH = 256
"""Wider inputs are searched in a random projection of this width first, and the pairs found are checked exactly."""

SLACK = 0.02
"""The projection's cosine of a pair at 0.98 is off by about (1 − 0.98²) / √256 = 0.0025."""

MANY = 50_000_000
"""Pairs of samples beyond which a command does not search unasked: seconds up to here."""


def twins(experiment: Experiment, threshold: float = 0.98) -> NearDuplicates:
    """Pairs of a forgotten and its nearest retained training sample with a cosine of at least `threshold` in the inputs as trained on.

    Exact copies are no warning but an error of the request, unless it says duplicates="forget". Errors: inputs that are no plain tensors.
    """
    split, ids = experiment.split, experiment.data.train_index.ids
    forget, retain = _rows(experiment.forget), _rows(experiment.retain)
    names = ids[split.forget], ids[split.retain]
    if forget.shape[1] <= WIDTH:
        return near_duplicates(forget, retain, *names, threshold=threshold)
    rng = np.random.default_rng(derive(0, "twins"))
    projection = rng.standard_normal((forget.shape[1], WIDTH)) / np.sqrt(WIDTH)
    near = near_duplicates(forget @ projection, retain @ projection, *names, threshold=max(threshold - SLACK, 0.01))
    return _checked(near, forget, retain, names, threshold)


def few_enough(experiment: Experiment) -> bool:
    """Whether a command may search without being asked."""
    return len(experiment.split.forget) * len(experiment.split.retain) <= MANY


def _rows(source: Source) -> np.ndarray:
    rows = []
    for batch in source.batches(1024):
        if not isinstance(batch.inputs, Tensor) or not batch.inputs.is_floating_point():
            raise EigenforgetError("near duplicates are looked for in inputs that are one tensor of real numbers, such as images")
        rows.append(batch.inputs.flatten(1).cpu().numpy().astype(np.float64))
    return np.concatenate(rows)


def _checked(
    near: NearDuplicates, forget: np.ndarray, retain: np.ndarray, names: tuple[np.ndarray, np.ndarray], threshold: float
) -> NearDuplicates:
    """The pairs whose exact cosine reaches the threshold, nearest first."""
    where = [{str(name): row for row, name in enumerate(side)} for side in names]
    found = []
    for pair in near.pairs:
        x, y = forget[where[0][pair.forget]], retain[where[1][pair.retain]]
        cosine = float(x @ y / np.sqrt((x @ x) * (y @ y)))
        if cosine >= threshold:
            found.append(Pair(pair.forget, pair.retain, cosine))
    found.sort(key=lambda pair: (-pair.cosine, pair.forget, pair.retain))
    return NearDuplicates(found, len(found), len({pair.forget for pair in found}))
