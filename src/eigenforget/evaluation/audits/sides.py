"""As many samples of the forget set as of the retain set, for audits that tell the two apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eigenforget.core.types import Part
from eigenforget.evaluation.evidence import Evidence
from eigenforget.evaluation.metrics.panel import too_few

TOLD_APART: tuple[Part, Part] = ("forget", "retain")
"""The two sides."""


def missing_side(evidence: Evidence) -> str:
    """Why there are too few samples of a side; "" where there are enough."""
    return too_few(**{part: evidence.count(part) for part in TOLD_APART})


def balanced(counts: Sequence[int], most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """As many rows of each side, drawn and in order: those of the smaller one, `most` at most."""
    count = min(*counts, most)
    return [np.sort(rng.permutation(n)[:count]) for n in counts]
