"""What an audit works on: the outputs of one model on each part, from the one forward pass that the metrics share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from torch import nn

from eigenforget.types import Part, Score


class PartOutputs(NamedTuple):
    """logits [N, C], features [N, D], labels [N], positions [N] as numpy arrays, in order of positions."""

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model (never changed by an audit) and its outputs on the parts that exist."""

    model: nn.Module
    parts: Mapping[Part, PartOutputs]
    num_classes: int
    forgotten_classes: tuple[int, ...]


class Audit(Protocol):
    """A frozen dataclass of settings, callable; may train something, never the model it is given."""

    name: ClassVar[str]

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]: ...
