"""What an audit works on: the outputs of a model and of the models beside it."""

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
    """A model's outputs on one part, in order of positions.

    Attributes:
        logits: [N, C].
        features: [N, D].
        labels: [N].
        positions: [N], rows in the part's source.
        layers: Features [N, D_l] of further layers by name.
    """

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    layers: Mapping[str, np.ndarray] = {}


Observation = Mapping[Part, PartOutputs]
"""The outputs of one model on each part that exists.

All models of a measurement have the same samples in the same order.
"""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model, its outputs on the parts that exist, and the outputs of the models beside it.

    Attributes:
        model: The model; an audit never changes it.
        parts: Its outputs.
        num_classes: Labels are below this number.
        forgotten_classes: Classes that are gone as a whole.
        original: Outputs of the model before unlearning.
        oracles: Outputs of the retrained models; where the model itself is one, of the others.
        peers: Outputs of models made in the same way from other training seeds.
        sources: The samples of each part, for audits that train or run a model.
        engine: What trains or runs it.
        layer: The layer of the features; None for the input of the classifier head.
        kept: What audits keep from one model to the next on the same samples, by their own keys.
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
    kept: dict[Any, Any] = field(default_factory=dict)

    def has(self, part: Part) -> bool:
        """Whether there are samples of this part."""
        return self.count(part) > 0

    def count(self, part: Part) -> int:
        """How many samples of this part there are."""
        return len(self.parts[part].labels) if part in self.parts else 0


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
    models made alike sets `ensemble` to True, and `least_oracles` to the oracles that it needs. One
    that costs much, or repeats a published table, sets `opt_in` to True: it runs where it is named.

    Attributes:
        name: Its name in specs and in `skip`.
        reads: "features" runs again on each further layer; "logits" and "model" run once.
    """

    name: ClassVar[str]
    reads: ClassVar[Reads]

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...] | Findings:
        """Scores of the model, and series where it has some; `seed` decides every draw."""
        ...
