"""Moves the unit of a model's features into its head, so that training treats all models alike."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.models.features import change_input
from eigenforget.models.heads import linear_head


def balance(model: nn.Module, mean: Tensor, inverse: float) -> bool:
    """Let the head see its inputs standardised, and answer as before; in place.

    A gradient step on a head depends on the scale of its inputs. Features a hundred times smaller
    under a head a hundred times larger make the same classifier, but the step on the head is 10,000
    times smaller. The head's input becomes (h − mean) · inverse; weight and bias undo it. Without a
    bias nothing is subtracted: such a head could not undo a shift either.

    Args:
        model: The model, whose head's weight and bias are trained.
        mean: Mean [D] of the head's inputs.
        inverse: One over their scale.

    Returns:
        Whether it was done: not where the head is none of its own (shared, computed, frozen), its
        inputs have another width, or the scale is no positive number.
    """
    try:
        _, head = linear_head(model, "balance", changes=("weight", "bias"))
    except Refused:
        return False
    if len(mean) != head.in_features or not 0 < inverse < torch.inf:
        return False
    with torch.no_grad():
        mean = mean.to(head.weight)
        if head.bias is None:
            mean = torch.zeros_like(mean)
        else:
            head.bias.add_(head.weight @ mean)
        head.weight.div_(inverse)
    change_input(head, partial(_standardised, mean, inverse))
    return True


def _standardised(mean: Tensor, inverse: float, features: Tensor) -> Tensor:
    return (features - mean.to(features)) * inverse
