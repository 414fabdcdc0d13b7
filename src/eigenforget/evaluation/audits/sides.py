"""As many samples of the forget set as of the retain set, for audits that tell the two apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eigenforget.core.types import Part
from eigenforget.evaluation.evidence import Evidence
from eigenforget.evaluation.metrics.attacks import MIN_SAMPLES

TOLD_APART: tuple[Part, Part] = ("forget", "retain")
"""The two sides."""


def missing_side(evidence: Evidence) -> str:
    """Why there are too few samples of a side; "" where there are enough."""
    of_forget, of_retain = (evidence.count(part) for part in TOLD_APART)
    if min(of_forget, of_retain) >= MIN_SAMPLES:
        return ""
    return f"needs {MIN_SAMPLES} samples each of forget and retain, got {of_forget} and {of_retain}"


def balanced(counts: Sequence[int], most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """As many rows of each side, drawn and in order: those of the smaller one, `most` at most."""
    count = min(*counts, most)
    return [np.sort(rng.permutation(n)[:count]) for n in counts]
