"""The ROC of an attack, thinned for a record."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eigenforget.evaluation.metrics.attacks import AttackScores, others_needed
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES

MAX_CORNERS = 200
"""Corners of a ROC in a record: enough for a figure whose axes are logarithmic."""

_EXACT_RATES = (0.001, 0.01, 0.1)


def roc_series(sides: AttackScores) -> dict[str, Any]:
    """The ROC of an attack as the series "mia_roc"; empty with too few samples for an AUC.

    `true` and `false` count how many of the `members` and `others` each threshold calls members,
    from none to all, so that the rates are exact. The corners whose true-positive rates are
    mia_tpr_1 and mia_tpr_01, and that at 10 %, are always among them. `at` holds these rates by
    false-positive rate; None with fewer others than one false alarm takes.
    """
    if sides.lacks((MIN_SAMPLES, MIN_SAMPLES)):
        return {"mia_roc": {}}
    roc = roc_curve(sides)
    kept = _thinned(roc)
    m, n = len(sides.members), len(sides.others)
    at = {
        f"{fpr:g}": None if n < others_needed(fpr) else float(roc.true[_corner(roc, fpr)] / m)
        for fpr in _EXACT_RATES
    }
    return {
        "mia_roc": {
            "members": m,
            "others": n,
            "true": roc.true[kept].tolist(),
            "false": roc.false[kept].tolist(),
            "at": at,
        }
    }


class RocCorners(NamedTuple):
    """Members and others called members at each threshold, rising from 0 to all.

    Attributes:
        true: [T] members.
        false: [T] others.
    """

    true: np.ndarray
    false: np.ndarray


def roc_curve(sides: AttackScores) -> RocCorners:
    """All corners of the ROC: the counts at or above each value that occurs, from the largest.

    Tied samples go together. The trapezoids under it make up P(member above) + ½ P(tie), the AUC.
    """
    values = np.unique(np.concatenate([sides.members, sides.others]))[::-1]
    counts = [
        np.r_[0, len(s) - np.searchsorted(np.sort(s), values, side="left")]
        for s in (sides.members, sides.others)
    ]
    return RocCorners(true=counts[0], false=counts[1])


def _corner(roc: RocCorners, fpr: float) -> int:
    """The last corner with at most floor(fpr · n) false alarms: the attack of threshold_attack."""
    # 0.29 · 100 is 28.999… in binary.
    allowed = int(np.floor(fpr * roc.false[-1] + 1e-9))
    return int(np.searchsorted(roc.false, allowed, side="right")) - 1


def _thinned(roc: RocCorners) -> np.ndarray:
    """Indices of at most MAX_CORNERS corners.

    The ends, those at _EXACT_RATES, and others at even steps of both logarithmic rates.
    """
    if len(roc.true) <= MAX_CORNERS:
        return np.arange(len(roc.true))
    always = [0, len(roc.true) - 1, _corner(roc, 0.0), *(_corner(roc, fpr) for fpr in _EXACT_RATES)]
    each = (MAX_CORNERS - len(always)) // 2
    by_rate = [
        np.searchsorted(side, np.geomspace(1, side[-1], each), side="right") - 1 for side in roc
    ]
    return np.unique(np.concatenate([always, *by_rate]))
