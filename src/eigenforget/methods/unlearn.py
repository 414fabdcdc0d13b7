"""`unlearn`: one call for any nn.Module and any data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError, Refused, naming
from eigenforget.core.own_code import is_of_this_package
from eigenforget.data.sources import Source, as_source
from eigenforget.data.sources.content import check_overlap, overlap, reads_the_same
from eigenforget.methods.base import DECLARED, Method, Task, of_callable
from eigenforget.methods.published import doubt_other_settings
from eigenforget.models.heads import check_label_range
from eigenforget.models.initialisation import infinite_constants, unsound
from eigenforget.models.prepare import check_inputs, door, looks, prepare
from eigenforget.models.wrappers import on_its_device
from eigenforget.requests.splitting import settled_classes
from eigenforget.training.arguments import check_arguments, check_classes_exist
from eigenforget.training.engine import Engine, engine_beside
from eigenforget.training.log import Log, Look
from eigenforget.training.recall import (
    recall,
    recall_if_any,
    warn_of_damage,
    warn_of_poor_recall,
)


@door
def unlearn(
    model: nn.Module,
    *,
    forget: Any,
    retain: Any = None,
    unseen: Any = None,
    method: Method | str | Callable[[Task], nn.Module],
    forgotten_classes: Sequence[int] | None = None,
    allow_overlap: bool | None = None,
    allow_untrained: bool = False,
    engine: Engine | None = None,
    seed: int = 0,
    layer: str | None = None,
    log: Log | None = None,
    look: Look | None = None,
) -> nn.Module:
    """Make a new module from which the forget set is unlearned.

    `model` itself stays bit for bit as it is. If its last nn.Linear is not the head, a forward pass
    of some samples finds the head, and the attribute `eigenforget_head` of the result names it.
    Parameters with requires_grad=False stay as they are (retrain draws them anew). If tensors are
    float16 or bfloat16, all is computed in float32 on a copy, and the result has the original types
    again.

    Args:
        model: Any classifier whose output is logits [B, C]; see `Logits` for others.
        forget: (inputs, labels) tensors, a map-style Dataset, a DataLoader, or Samples of one of
            these.
        retain: The retain set, in the same forms; a small sample will do. None for methods that
            work without it.
        unseen: Samples that the model never saw, in the same forms, for methods that need some
            (LoTUS, SCRUB with rewind). Do not use them to measure the result.
        method: A method such as SCRUB(alpha=0.1), its spec "scrub(alpha=0.1)", or your own
            function, which takes the `Task` and returns the unlearned module.
        forgotten_classes: Classes that are forgotten as a whole. By default these are the classes
            of the forget set if the retain set has none of them, and no class otherwise. If the
            retain set lacks only some of them, that is a warning.
        allow_overlap: Whether the retain set may contain samples of the forget set, which most
            methods would then keep, and whether either may contain unseen samples. By default that
            is an error. Datasets of more than 10,000 samples that are not in memory are compared
            only if both are Subsets of one dataset; otherwise there is a warning. False compares
            them in any case.
        allow_untrained: Whether the model may know nothing of its training data. By default there
            is a warning if it hardly knows up to 1,024 samples of them.
        engine: Device, precision and the like; by default the model's GPU, or else the best device
            there is.
        seed: All randomness depends on it.
        layer: The layer whose output are the features. A model without a linear head needs it.
        log: Called with a row after each epoch of training.
        look: Called with the model then; what it returns is added to that row.

    Returns:
        The unlearned module, in eval mode, on the device of the given one.

    Raises:
        EigenforgetError: An argument is of a wrong type, the method does not exist, labels lie
            outside the head, weights are NaN, quantised or complex, a set is empty, or samples
            are in both sets.
        Refused: The method is not made for this model or these data.
        Diverged: Training led to NaN or infinite values.
    """
    check_arguments(model=model, seed=seed, engine=engine, layer=layer, log=log, look=look)
    check_arguments(allow_overlap=allow_overlap)
    chosen = as_method(method)
    forget_set = _source(forget, "forget")
    retain_set = None if retain is None else _source(retain, "retain")
    unseen_set = None if unseen is None else _source(unseen, "unseen")
    sets = {"forget": forget_set, "retain": retain_set, "unseen": unseen_set}
    prepared = prepare(model, looks(**sets), trains=True)
    for source in sets.values():
        if source is not None:
            check_label_range(source.labels(), prepared.num_classes)
    if not allow_overlap:
        _check_sets(sets, at_any_cost=allow_overlap is False)
    gone = settled_classes(forget_set, retain_set, forgotten_classes)
    check_classes_exist(forgotten_classes and gone, prepared.num_classes)
    task = Task(
        model=prepared.model,
        forget=forget_set,
        retain=retain_set,
        engine=engine or engine_beside(model),
        seed=int(seed),
        num_classes=prepared.num_classes,
        forgotten_classes=gone,
        layer=layer,
        log=log or (lambda _: None),
        look=look,
        unseen=unseen_set,
    )
    with on_its_device(task.model) as (place,):
        before = recall_if_any(task.model, retain_set or forget_set, task.engine, layer)
        if not allow_untrained:
            warn_of_poor_recall(before)
        made = run_method(chosen, task)
        if retain_set is not None and before is not None and chosen.role == "unlearned":
            with naming(f"the result of {chosen.name}"):
                after = recall(made, retain_set, task.engine, layer)
            warn_of_damage(chosen.name, after, before)
        return prepared.restored(place.put(made))


def as_method(value: Any) -> Method:
    """The method that this is, spells, or wraps.

    Raises:
        EigenforgetError: It is none of these.
    """
    if isinstance(value, str):
        from eigenforget.methods.registry import METHODS  # all of them load, a quarter of a second

        return cast("Method", METHODS.parse(value))
    if isinstance(value, type):
        raise EigenforgetError(f"method is the class {value.__name__}; call it: {value.__name__}()")
    if callable(value) and not isinstance(value, nn.Module):
        if all(hasattr(value, name) for name in DECLARED):
            return cast("Method", value)
        return cast("Method", of_callable(value)())
    raise EigenforgetError(
        "method must be a method such as SCRUB(), a spec such as 'scrub(alpha=0.1)' or a "
        f"function of the task, got {type(value).__name__}"
    )


def run_method(method: Method, task: Task) -> nn.Module:
    """The method's result, after the checks that all methods share."""
    constants = infinite_constants(task.model)
    _check_weights(task.model, "the model to unlearn", constants)
    if not any(parameter.requires_grad for parameter in task.model.parameters()):
        raise Refused(
            f"{method.name}: the model has no trainable parameter, as requires_grad is False for "
            "all of them"
        )
    for source in (task.forget, task.retain, task.unseen):
        if source is not None:
            check_label_range(source.labels(), task.num_classes)
    check_inputs(task.model, forget=task.forget, retain=task.retain)
    doubt_other_settings(method, task)
    if not _of_this_package(method):  # others may change what they are given
        task = replace(task, model=task.student())
    result: Any = method(task)
    if not isinstance(result, nn.Module):
        raise EigenforgetError(
            f"{method.name} must return the unlearned nn.Module, got {type(result).__name__}"
        )
    _check_weights(result, f"the result of {method.name}", constants)
    return result


def _of_this_package(method: Any) -> bool:
    """Whether a method, and those that it runs, are of this package."""
    if not dataclasses.is_dataclass(method) or isinstance(method, type):
        return not callable(method)
    inner = (getattr(method, field.name) for field in dataclasses.fields(method))
    return is_of_this_package(type(method)) and all(map(_of_this_package, inner))


def _check_weights(model: nn.Module, what: str, constants: Mapping[str, Tensor]) -> None:
    """Error, which names the tensor, if one other than these constants is NaN or infinite."""
    for name in unsound(model, constants):
        raise EigenforgetError(f"{what} has NaN or infinite values in {name}")


def _source(data: Any, what: str) -> Source:
    if data is None:
        raise EigenforgetError(
            f"unlearn needs {what} data: (inputs, labels), a Dataset or a DataLoader"
        )
    return as_source(data, what)


def _check_sets(sets: Mapping[str, Source | None], *, at_any_cost: bool) -> None:
    """Checks that no sample is in two of the sets; warns where it cannot look."""
    given = [(name, source) for name, source in sets.items() if source is not None]
    for (name, one), (other_name, other) in combinations(given, 2):
        count = overlap(one, other=other, at_any_cost=at_any_cost)
        if count is not None:
            check_overlap(f"{other_name} set", of=f"{name} set", count=count)
            continue
        total = len(one) + len(other)
        why, cure = f"{total} samples are not in memory", "say allow_overlap=False to read them all"
        if not (reads_the_same(one) and reads_the_same(other)):
            why = "they differ each time they are read, as with random augmentation"
            cure = "give Samples(data, eval_transform=…)"
        notices.warn(
            f"not checked whether the {name} set and the {other_name} set share samples: {why}; "
            f"give Subsets of one dataset, {cure}, or allow_overlap=True if they may share some"
        )
