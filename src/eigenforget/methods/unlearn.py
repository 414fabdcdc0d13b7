"""`unlearn`: one call for any nn.Module and any data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.data.sources import Source, as_source
from eigenforget.methods.base import Method, Task
from eigenforget.models.checkpoint import check_labels, named_tensors
from eigenforget.models.heads import settle
from eigenforget.models.initialisation import infinite_constants, unsound
from eigenforget.models.module import bare
from eigenforget.models.precision import narrowed, types_of, widened
from eigenforget.requests.splitting import gone_classes
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log, Look


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
    look: Look | None = None,
) -> nn.Module:
    """A new module from which the forget data is unlearned; `model` itself stays bit for bit as it
    is.

    forget, retain: (inputs, labels) tensors, a map-style Dataset or a DataLoader; retain may be a
    small sample or None, for methods that work without. forgotten_classes: classes that are gone as
    a whole; by default those in forget and not in retain. layer: whose output are the features; a
    model without a linear head needs it. Where the last nn.Linear is not the head, a pass of two
    samples finds it, and the result bears its name in the attribute `eigenforget_head`. Parameters
    with requires_grad=False stay as they are (retrain draws them anew). Where tensors are float16
    or bfloat16, all is computed in float32 on a copy, and the result has the types of the model
    again. log: called with a row after each epoch of training; look: what it finds in the model then
    is added to that row. Errors: EigenforgetError (labels outside the head, NaN weights, empty data, quantised or
    complex weights), Refused, Diverged.
    """
    given = bare(model)
    plain, types = widened(given), types_of(dict(named_tensors(given)))
    forget_source = as_source(forget, "forget")
    retain_source = None if retain is None else as_source(retain, "retain")
    settled = settle(plain, forget_source)
    task = Task(
        model=settled.model,
        forget=forget_source,
        retain=retain_source,
        engine=engine or Engine(),
        seed=seed,
        num_classes=settled.num_classes,
        forgotten_classes=_gone(forget_source, retain_source, forgotten_classes),
        layer=layer,
        log=log or (lambda row: None),
        look=look,
    )
    return narrowed(run(method, task), types)


def run(method: Method, task: Task) -> nn.Module:
    """The method's result after the checks that every method shares."""
    constants = infinite_constants(task.model)
    check_weights(task.model, "the model to unlearn", constants)
    if not any(parameter.requires_grad for parameter in task.model.parameters()):
        raise Refused(
            f"{method.name}: the model has no trainable parameter, as requires_grad is False for all of them"
        )
    for source in (task.forget, task.retain):
        if source is not None:
            check_labels(source.labels(), task.num_classes)
    result = method(task)
    check_weights(result, f"the result of {method.name}", constants)
    return result


def check_weights(model: nn.Module, what: str, constants: Mapping[str, Tensor]) -> None:
    """Error if a parameter or buffer holds NaN or infinite values, other than in these constants
    (the tensor is named).
    """
    for name in unsound(model, constants):
        raise EigenforgetError(f"{what} has NaN or infinite values in {name}")


def _gone(forget: Source, retain: Source | None, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is not None:
        return tuple(sorted(int(c) for c in given))
    return () if retain is None else gone_classes(forget, retain)
