"""What methods that work on the classifier head may ask of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.text import listed
from eigenforget.models.features import find_head


def head_if_any(model: nn.Module) -> tuple[str, nn.Linear] | None:
    """The classifier head as in `find_head`; None where the model has none, or several."""
    try:
        return find_head(model)
    except EigenforgetError:
        return None


def linear_head(model: nn.Module, method: str, *, changes: Sequence[str]) -> tuple[str, nn.Linear]:
    """The name and the module of a linear head of which a method changes some parameters.

    Args:
        model: The model that will be changed.
        method: Name of the method, for messages.
        changes: Names of the parameters.

    Raises:
        Refused: There is no linear head, it has one output for two classes, it is frozen, its
            parameters are computed from others, or it shares one with another layer, which would
            change too.
    """
    try:
        name, head = find_head(model)
    except EigenforgetError as error:
        raise Refused(f"{method} needs a linear classifier head: {error}") from None
    if head.out_features == 1:
        raise Refused(
            f"{method} needs a classifier head with an output for each class; {name} has one for "
            "both"
        )
    own = {key: p for key, p in head.named_parameters(recurse=False) if key in changes}
    computed = [key for key in changes if key not in own and getattr(head, key, None) is not None]
    if computed:
        raise Refused(
            f"{method} changes the classifier head {name}, whose {listed(computed)} is computed "
            "from other parameters, as by pruning or weight norm; make it permanent first"
        )
    frozen = [key for key, p in own.items() if not p.requires_grad]
    if frozen:
        raise Refused(
            f"{method} changes the classifier head {name}, whose {listed(frozen)} is frozen "
            "(requires_grad is False)"
        )
    ids = {id(p) for p in own.values()}
    sharing = [
        other
        for other, m in model.named_modules()
        if m is not head and any(id(p) in ids for p in m.parameters(recurse=False))
    ]
    if sharing:
        raise Refused(
            f"{method} changes the classifier head {name} alone, which shares its weight with "
            f"{listed(sharing)}"
        )
    return name, head


def plain_head(model: nn.Module, method: str) -> tuple[str, nn.Linear]:
    """The name and the module of a head that can be exchanged.

    Raises:
        Refused: As in `linear_head`, or the head is no plain nn.Linear inside the model.
    """
    name, head = linear_head(model, method, changes=("weight", "bias"))
    if type(head) is not nn.Linear or not name:
        where = name or "the model itself"
        raise Refused(
            f"{method} needs a plain nn.Linear head inside the model; {where} is "
            f"{type(head).__name__}"
        )
    return name, head


def replace_module(model: nn.Module, name: str, *, module: nn.Module) -> None:
    """Put a module in place of the named one, under each of its names.

    Order and names of the other modules stay as they are.
    """
    old = model.get_submodule(name)
    for path in [
        path for path, found in model.named_modules(remove_duplicate=False) if found is old
    ]:
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)


def check_label_range(labels: np.ndarray, head_size: int) -> None:
    """Check that all labels [N] are outputs of the head, 0 to head_size − 1.

    Raises:
        EigenforgetError: Some are not; the message lists them.
    """
    outside = np.unique(labels[(labels < 0) | (labels >= head_size)])
    if len(outside):
        subject = f"labels {listed(outside)} are" if len(outside) > 1 else f"label {outside[0]} is"
        from_one = labels.min() == 1 and labels.max() == head_size
        cure = "; labels count from 0: subtract 1" if from_one else ""
        raise EigenforgetError(f"{subject} outside the model's head of {head_size} outputs{cure}")
