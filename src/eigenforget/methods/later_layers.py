"""Methods that train later layers alone: which these are, and a task as they see it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from eigenforget.data.sources import Source
from eigenforget.methods.base import Task
from eigenforget.methods.cf_k import LAYERS, last_layers, owned
from eigenforget.models.cutting import cut_model
from eigenforget.models.features import find_head
from eigenforget.training.log import Look

_TRIED, _MOST_KEPT = 8, 2 * 1024**3
"""Samples on which a cut model is compared with the whole, and bytes that its inputs may take."""


def later_layers(model: nn.Module, share: float, method: str) -> dict[str, nn.Module] | None:
    """The modules by name that hold this share of the layers before the head, and the head.

    Args:
        model: A classifier.
        share: Of the convolutions and linear layers before the head, from the end, in (0, 1]; one
            of them at least.
        method: The method that asks, in messages.

    Returns:
        None where these are all layers, or nothing in them trains.
    """
    layers = sum(isinstance(module, LAYERS) for module in model.modules())
    count = 1 + max(1, math.ceil(round(share * (layers - 1), 9)))
    if share == 1 or count >= layers:
        return None
    name, head = find_head(model)
    chosen = {**last_layers(model, count, method), name: head}
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    return chosen if owned(model, chosen) & free else None


def behind_a_cut(
    task: Task, model: nn.Module, trains: Callable[[str], bool], *sources: Source
) -> tuple[nn.Module, Task, tuple[Source, ...]]:
    """The part of a model that holds what trains, and a task and samples as that part sees them.

    Its samples are what the earlier layers give, computed once. Where the model cannot be cut, or
    that takes too much memory, all stay as they are. Batch norms have to keep their statistics.

    Args:
        task: Its model becomes a copy of the part; its own sources stay.
        model: The model that will train.
        trains: Whether the parameter of this name trains.
        *sources: Samples without augmentation, the first of them not empty.
    """
    engine = task.engine
    if engine.compile or engine.changes:  # who reaches into a training knows the whole model
        return model, task, sources
    model = engine.placed(model)
    first = engine.formatted(engine.at_device(next(iter(sources[0].batches(_TRIED)))).inputs)
    parts = cut_model(model, trains, first) if isinstance(first, Tensor) else None
    if parts is None or sum(map(len, sources)) * parts.sample_bytes > _MOST_KEPT:
        return model, task, sources
    before = replace(task, model=copy.deepcopy(parts.later))
    return parts.later, before, tuple(engine.mapped(parts.earlier, of) for of in sources)


def whole_look(look: Look | None, student: nn.Module) -> Look | None:
    """What is found in the whole student, of which a part trains."""
    return None if look is None else lambda _: look(student)
