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


Reads = Literal["logits", "features", "model"]
"""What an audit works on: outputs, features (again on each further layer), or the model itself."""


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
    """The answer of a metric or an audit.

    Attributes:
        scores: What was measured.
        series: The series behind figures, by name.
    """

    scores: tuple[Score, ...]
    series: Mapping[str, Any]


class Audit(Protocol):
    """A frozen dataclass of settings that is called on evidence.

    It may train something, but never changes the model that it is given. One that needs several
    models made alike sets `ensemble` to True.

    Attributes:
        name: Its name in specs and in `skip`.
        reads: "features" runs again on each further layer; "logits" and "model" run once.
    """

    name: ClassVar[str]
    reads: ClassVar[Reads]

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...] | Findings:
        """Scores of the model, and series where it has some; `seed` decides every draw."""
        ...
