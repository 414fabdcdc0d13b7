"""Where samples come from: tensors on the device, or any map-style Dataset through a DataLoader."""

from __future__ import annotations

from eigenforget.data.sources.given import as_source
from eigenforget.data.sources.inputs import Augment, Inputs
from eigenforget.data.sources.kinds import (
    DatasetSource,
    JoinedSource,
    Source,
    TensorSource,
    in_memory,
    steps_in_epoch,
    unaugmented,
)
from eigenforget.data.sources.samples import Samples

__all__ = [
    "Augment",
    "DatasetSource",
    "Inputs",
    "JoinedSource",
    "Samples",
    "Source",
    "TensorSource",
    "as_source",
    "in_memory",
    "steps_in_epoch",
    "unaugmented",
]
