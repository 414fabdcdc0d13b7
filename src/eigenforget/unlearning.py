"""`unlearn`: one call for any nn.Module and any data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from eigenforget.engine import Engine, Log
from eigenforget.evaluation import gone_classes
from eigenforget.features import find_head
from eigenforget.models.checkpoint import check_labels
from eigenforget.sources import Source, as_source
from eigenforget.types import EigenforgetError, Method, Task


def unlearn(
    model: nn.Module,
    *,
    forget: Any,
    retain: Any = None,
    method: Method,
    forgotten_classes: Sequence[int] | None = None,
    engine: Engine | None = None,
    seed: int = 0,
    layer: str | None = None,
    log: Log | None = None,
) -> nn.Module:
    """A new module from which the forget data is unlearned; `model` itself stays bit for bit as it is.

    forget, retain: (inputs, labels) tensors, a map-style Dataset or a DataLoader; retain may be a small sample or
    None, for methods that work without. forgotten_classes: classes that are gone as a whole; by default those in forget and not in retain.
    Errors: EigenforgetError (labels outside the head, NaN weights, empty data), Refused, Diverged.
    """
    forget_source = as_source(forget, "forget")
    retain_source = None if retain is None else as_source(retain, "retain")
    task = Task(
        model=model,
        forget=forget_source,
        retain=retain_source,
        engine=engine or Engine(),
        seed=seed,
        num_classes=head_outputs(model),
        forgotten_classes=_gone(forget_source, retain_source, forgotten_classes),
        layer=layer,
        log=log or (lambda row: None),
    )
    return run(method, task)


def run(method: Method, task: Task) -> nn.Module:
    """The method's result after the checks that every method shares."""
    check_weights(task.model, "the model to unlearn")
    for source in (task.forget, task.retain):
        if source is not None:
            check_labels(source.labels(), task.num_classes)
    result = method(task)
    check_weights(result, f"the result of {method.name}")
    return result


def check_weights(model: nn.Module, what: str) -> None:
    """Error if a parameter or buffer holds NaN or infinite values (the tensor is named)."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise EigenforgetError(f"{what} has NaN or infinite values in {name}")


def head_outputs(model: nn.Module) -> int:
    """Number of outputs C of the classifier head."""
    return find_head(model)[1].out_features


def _gone(forget: Source, retain: Source | None, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is not None:
        return tuple(sorted(int(c) for c in given))
    return () if retain is None else gone_classes(forget, retain)
