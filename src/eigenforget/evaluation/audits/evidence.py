"""What an audit works on: the outputs of a model and of those it stands beside, from the forward
passes that the metrics share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from torch import nn

from eigenforget.core.types import Part, Score

if TYPE_CHECKING:
    from eigenforget.data.sources import Source
    from eigenforget.training.engine import Engine


class PartOutputs(NamedTuple):
    """logits [N, C], features [N, D], labels [N], positions [N] as numpy arrays, in order of
    positions.

    layers: features [N, D_l] of further layers by name.
    """

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    layers: Mapping[str, np.ndarray] = {}


Observation = Mapping[Part, PartOutputs]
"""The outputs of one model on each part that exists. All models of a measurement have the same
samples in the same order.
"""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model (never changed by an audit), its outputs on the parts that exist, and the outputs of
    the models beside it.

    original: before unlearning. oracles: retrained without the forget data; where the model itself
    is one of them, the others. peers: made in the same way as the model from other training seeds.
    sources, engine, layer (of the features): for audits that train or run a model.
    """

    model: nn.Module
    parts: Observation
    num_classes: int
    forgotten_classes: tuple[int, ...]
    original: Observation | None = None
    oracles: tuple[Observation, ...] = ()
    peers: tuple[Observation, ...] = ()
    sources: Mapping[Part, Source] = field(default_factory=dict)
    engine: Engine | None = None
    layer: str | None = None

    def has(self, part: Part) -> bool:
        """Whether there are samples of this part."""
        return part in self.parts and len(self.parts[part].labels) > 0


class Findings(NamedTuple):
    """Scores, and the series behind a figure by name, as an audit's answer."""

    scores: tuple[Score, ...]
    series: Mapping[str, Any]


class Audit(Protocol):
    """A frozen dataclass of settings, callable; may train something, never the model it is given.

    reads: "features" is run again on each further layer; "logits" and "model" once.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["logits", "features", "model"]]

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...] | Findings: ...
