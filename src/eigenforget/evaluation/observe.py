"""Observes a model: its outputs on every part, on the CPU, from one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from eigenforget.alignment import alignment_of_rows, default_k
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.text import listed
from eigenforget.core.types import Batch, Outputs, Part
from eigenforget.data.sources import Source
from eigenforget.evaluation.evidence import Observation, PartOutputs
from eigenforget.models.heads import check_label_range
from eigenforget.requests.splitting import sides_of
from eigenforget.training.engine import Engine, Meter

CHUNK = 2048
"""Samples that a metric is fed at once."""


class View(NamedTuple):
    """What is captured.

    Attributes:
        layer: The headline layer; None for the input of the classifier head.
        layers: Further layers.
    """

    layer: str | None
    layers: tuple[str, ...]


def observe(
    engine: Engine, model: nn.Module, parts: Mapping[Part, Source], view: View
) -> dict[Part, PartOutputs]:
    """The outputs of the model on every part, in order.

    Args:
        engine: Runs the model.
        model: The model.
        parts: The samples of each part.
        view: The layers.

    Raises:
        EigenforgetError: A layer is unknown, or a label has no logit.
    """
    seen: dict[Part, PartOutputs] = {}
    for part, source in parts.items():
        labels = source.labels()
        rows: list[tuple[Batch, Outputs]] = []
        for batch, outputs in engine.forward(model, source, layer=view.layer, layers=view.layers):
            if not rows:
                check_label_range(labels, outputs.logits.shape[1])
            rows.append(
                (Batch(None, batch.labels.cpu(), batch.positions.cpu()), outputs.mapped(Tensor.cpu))
            )
        seen[part] = _joined(rows)
    return seen


def at_layer(seen: Observation, layer: str) -> dict[Part, PartOutputs]:
    """The same outputs with the features of a further layer as the headline features."""
    return {
        part: rows._replace(features=rows.layers[layer], layers={}) for part, rows in seen.items()
    }


def batches(rows: PartOutputs) -> Iterator[tuple[Batch, Outputs]]:
    """The rows as batches of tensors, as metrics take them; the inputs are gone."""
    for start in range(0, len(rows.labels), CHUNK):
        logits, features, labels, positions = (
            torch.from_numpy(column[start : start + CHUNK]) for column in rows[:4]
        )
        yield Batch(None, labels, positions), Outputs(logits, features)


def pairs(
    mine: PartOutputs, other: PartOutputs, reads: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of (labels, mine, other): logits or features of two models on the same samples.

    Args:
        mine: Outputs of the one model.
        other: Outputs of the other model.
        reads: "logits" or "features".

    Raises:
        EigenforgetError: The samples differ.
    """
    if not (
        np.array_equal(mine.positions, other.positions)
        and np.array_equal(mine.labels, other.labels)
    ):
        raise EigenforgetError(
            "two models can be compared on the same samples in the same order only"
        )
    for (batch, ours), (_, theirs) in zip(batches(mine), batches(other), strict=True):
        yield batch.labels, getattr(ours, reads), getattr(theirs, reads)


LOOKED_AT = 256
"""Samples of each side in a training trace: enough to see a course, and cheap."""


class Glance:
    """What a training trace shows after an epoch: accuracies of both sides, and their DA.

    On at most LOOKED_AT samples a side, the same ones each time, so that the values wander less
    than the model; they are no scores. A module whose parameters are not those of `model`, as a
    method may train one on its way, is not looked at. No meter counts it.

    Args:
        engine: Runs the model.
        model: The model that is to be unlearned.
        sides: Forget set and retain set.
        k: Directions of the alignment.
        layer: The layer of the features.
        seed: Which samples are looked at follows from it.
    """

    def __init__(
        self,
        engine: Engine,
        model: nn.Module,
        sides: tuple[Source, Source],
        *,
        k: int,
        layer: str | None,
        seed: int,
    ) -> None:
        self.engine, self.layer = replace(engine, meter=Meter()), layer
        self.names = [name for name, _ in model.named_parameters()]
        self.forget, self.retain = (
            side.subset(
                np.random.default_rng(derive(seed, "glance")).permutation(len(side))[:LOOKED_AT]
            )
            for side in sides
        )
        self.k = k

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The values by name; none of a module that is not the model."""
        if [name for name, _ in model.named_parameters()] != self.names:
            return {}
        view = View(self.layer, ())
        seen = observe(self.engine, model, {"forget": self.forget, "retain": self.retain}, view)
        found = {
            f"{part}_accuracy": float(np.mean(rows.logits.argmax(1) == rows.labels))
            for part, rows in seen.items()
        }
        forget, retain = (torch.from_numpy(seen[part].features) for part in ("forget", "retain"))
        k = min(default_k(self.k, width=forget.shape[1]), len(retain))
        try:
            return {**found, "da": float(alignment_of_rows(forget, retain=retain, k=k))}
        except EigenforgetError:
            return found  # features that span fewer than k directions, or none, have no DA


def _joined(rows: Sequence[tuple[Batch, Outputs]]) -> PartOutputs:
    def column(take: Sequence[Tensor]) -> np.ndarray:
        return torch.cat(list(take)).numpy()

    layers = {name: column([o.layers[name] for _, o in rows]) for name in rows[0][1].layers}
    return PartOutputs(
        column([o.logits for _, o in rows]),
        column([o.features for _, o in rows]),
        column([b.labels for b, _ in rows]),
        column([b.positions for b, _ in rows]),
        layers,
    )


def parts_of(
    forget: Source, *, retain: Source, test: Source, forgotten_classes: Sequence[int]
) -> dict[Part, Source]:
    """The parts that exist.

    Where classes are gone as a whole, held-out samples are divided into forgotten and other
    classes.

    Raises:
        EigenforgetError: The test data has no sample of a retained class.
    """
    parts: dict[Part, Source] = {"forget": forget, "retain": retain}
    gone, rest = sides_of(test.labels(), forgotten_classes)
    if not len(rest):
        raise EigenforgetError("the test data has no sample of a retained class")
    unseen = sorted(set(forgotten_classes).difference(test.labels()[gone].tolist()))
    if unseen:
        notices.warn(
            f"no test sample is of class {listed(unseen)}, which is forgotten: scores on held-out "
            "samples of it have no value; test samples of it would give them"
        )
    if len(gone):
        parts["test_forget"] = test.subset(gone)
    parts["test_retain"] = test.subset(rest) if len(gone) else test
    return parts
