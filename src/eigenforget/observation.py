"""One forward pass per model and part, kept on the CPU; metrics and audits are fed from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from eigenforget.audits.evidence import PartOutputs, Seen
from eigenforget.engine import Engine
from eigenforget.models.checkpoint import check_labels
from eigenforget.sources import Source
from eigenforget.types import Batch, EigenforgetError, Outputs, Part

CHUNK = 2048
"""Samples that a metric is fed at once."""


class View(NamedTuple):
    """What is captured: the headline layer (None: the input of the classifier head) and further layers."""

    layer: str | None
    layers: tuple[str, ...]


def observe(engine: Engine, model: nn.Module, parts: Mapping[Part, Source], view: View) -> dict[Part, PartOutputs]:
    """The outputs of the model on every part, in order. Errors: unknown layers, labels that have no logit."""
    seen: dict[Part, PartOutputs] = {}
    for part, source in parts.items():
        labels = source.labels()
        rows: list[tuple[Batch, Outputs]] = []
        for batch, outputs in engine.forward(model, source, layer=view.layer, layers=view.layers):
            if not rows:
                check_labels(labels, outputs.logits.shape[1])
            rows.append((Batch(None, batch.labels.cpu(), batch.positions.cpu()), _on_cpu(outputs)))
        seen[part] = _joined(rows)
    return seen


def at_layer(seen: Seen, layer: str) -> dict[Part, PartOutputs]:
    """The same outputs with the features of a further layer in the place of the headline features."""
    return {part: rows._replace(features=rows.layers[layer], layers={}) for part, rows in seen.items()}


def batches(rows: PartOutputs) -> Iterator[tuple[Batch, Outputs]]:
    """The rows as batches of tensors, as metrics take them; the inputs are gone."""
    for start in range(0, len(rows.labels), CHUNK):
        logits, features, labels, positions = (torch.from_numpy(column[start : start + CHUNK]) for column in rows[:4])
        yield Batch(None, labels, positions), Outputs(logits, features)


def pairs(mine: PartOutputs, other: PartOutputs, reads: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(labels, mine, other) in batches: logits or features of two models on the same samples. Errors: other samples."""
    if not (np.array_equal(mine.positions, other.positions) and np.array_equal(mine.labels, other.labels)):
        raise EigenforgetError("two models can be compared on the same samples in the same order only")
    for (batch, ours), (_, theirs) in zip(batches(mine), batches(other), strict=True):
        yield batch.labels, getattr(ours, reads), getattr(theirs, reads)


def _on_cpu(outputs: Outputs) -> Outputs:
    return Outputs(outputs.logits.cpu(), outputs.features.cpu(), {name: f.cpu() for name, f in outputs.layers.items()})


def _joined(rows: Sequence[tuple[Batch, Outputs]]) -> PartOutputs:
    def column(take: Sequence[Tensor]) -> np.ndarray:
        return torch.cat(list(take)).numpy()

    layers = {name: column([o.layers[name] for _, o in rows]) for name in rows[0][1].layers}
    return PartOutputs(
        column([o.logits for _, o in rows]), column([o.features for _, o in rows]), column([b.labels for b, _ in rows]),
        column([b.positions for b, _ in rows]), layers,
    )  # fmt: skip
