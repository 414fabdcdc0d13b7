"""Head rows of forgotten classes, as a model has them that never saw these classes."""

from __future__ import annotations

import torch
from torch import nn

from eigenforget.alignment import Moments
from eigenforget.core import notices
from eigenforget.core.errors import Refused
from eigenforget.methods.base import Task
from eigenforget.models.heads import linear_head

_ONE_SIDE = 0.5
"""Features lie on one side of the origin where x · μ / ‖μ‖² has a smaller standard deviation around
its mean of 1. It is 0.14 to 0.18 in small_resnet and 2.2 in vit_tiny, where the forget set was at
−4 and replaced rows won."""


def can_replace_rows(task: Task, student: nn.Module) -> bool:
    """Whether there are rows of the head to be replaced: those of classes that are gone.

    A model whose head cannot be changed keeps them, with a warning.
    """
    if not task.forgotten_classes or task.layer is not None:
        return False
    try:
        linear_head(student, "muda", changes=("weight", "bias"))
    except Refused as error:
        notices.warn(f"{error}; muda leaves its rows of the forgotten classes as they are")
        return False
    return bool(set(task.retained_classes) - set(task.forgotten_classes))


@torch.no_grad()
def replace_rows(task: Task, model: nn.Module, retained: Moments, margin: float) -> None:
    """Draw the head's rows of the forgotten classes anew.

    They are the mean retained row − margin · μ / ‖μ‖², μ [D] the mean feature, with the mean
    retained bias. At μ their logits lie `margin` below the mean logit. Where features lie around
    the origin (after layer normalisation, for example), the weights would lower some logits and
    raise others; there the bias is lowered.
    """
    _, head = linear_head(model, "muda", changes=("weight", "bias"))
    gone = list(task.forgotten_classes)
    kept = [c for c in task.retained_classes if c not in gone]
    centre = retained.mean.to(head.weight)
    squared = centre.square().sum().clamp_min(torch.finfo(centre.dtype).tiny)
    variance = centre @ (retained.scatter.to(centre) @ centre) / int(retained.samples)
    one_side = bool(variance.sqrt() < _ONE_SIDE * squared) or head.bias is None
    head.weight[gone] = head.weight[kept].mean(0) - (margin * centre / squared if one_side else 0.0)
    if head.bias is not None:
        head.bias[gone] = head.bias[kept].mean() - (0.0 if one_side else margin)
