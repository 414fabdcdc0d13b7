"""ESC: project the forget set's principal directions away before the classifier head."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.alignment import Eigenspace, merge, moments
from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.published import ALL_CNN, CIFAR10, PublishedRun
from eigenforget.models.features import find_head
from eigenforget.models.heads import linear_head


@configured
class ESC(Method):
    """Fold the projection P = I − U_k U_kᵀ into the head: W ← W P, so that logits are W P f + b.

    U_k are the leading k left singular vectors of the forget features, which are not centred. k is
    `drop_percent` of the feature width, rounded down, but at least 1 and at most the rank of the
    forget features. All weights before the head are the original's, and so are the features that
    enter it. Nothing is removed from the model; the head merely ignores these directions.
    """

    name: ClassVar = "esc"
    source: ClassVar = (
        "Lee et al.: ESC, Erasing Space Concept for Knowledge Deletion, CVPR 2025, arXiv "
        "2504.02199. Deviations: folded into the head's weight; the complement of U_k is kept "
        "whole, where the authors keep only what the N_f forget features span (equal for N_f ≥ D)"
    )
    needs: ClassVar = ("forget", "a linear head on the features")
    guarantee: ClassVar = (
        "none: plug-in; original weights still present; features before the head are the original's"
    )
    passes: ClassVar = "forward: forget"
    search_space: ClassVar = {"drop_percent": Range(0.8, 20.0)}
    recipes: ClassVar = {
        "cifar10-allcnn-esc": PublishedRun(
            dict(
                drop_percent=1.5,
            ),
            ALL_CNN,
            CIFAR10,
            "one class",
            "KU-VGI/ESC, README.md and unlearn.py, 29c66b8",
        ),
    }

    drop_percent: Annotated[
        float, Field(gt=0, lt=100), "share of feature directions dropped, in percent"
    ] = 1.5

    def __call__(self, task: Task) -> nn.Module:
        student = task.student()
        space, _ = forget_directions(task, student, self.name)
        width = space.vectors.shape[0]
        k = min(max(1, int(width * self.drop_percent / 100)), space.vectors.shape[1], width - 1)
        dropped = space.vectors[:, :k]
        fold(
            student,
            torch.eye(width, dtype=dropped.dtype, device=dropped.device) - dropped @ dropped.T,
        )
        return student.eval()


def forget_directions(task: Task, model: nn.Module, method: str) -> tuple[Eigenspace, Tensor]:
    """The eigenspace of the forget features at the head's input, and these features [N_f, D].

    Raises:
        Refused: The model has no linear head that can change, or it sees more than one vector per
            sample.
    """
    name, head = linear_head(model, method, changes=("weight",))
    rows = torch.cat([outputs.features for _, outputs in task.engine.forward(model, task.forget)])
    if rows.shape[1] != head.in_features:
        got = f"{rows.shape[1]} values for {head.in_features} inputs"
        raise Refused(
            f"{method} needs one feature vector per sample before the head {name}, got {got}"
        )
    total = None
    for part in torch.split(rows, 4096):
        total = moments(part) if total is None else merge(total, moments(part))
    assert total is not None  # a Source is never empty
    return total.space(), rows


def fold(model: nn.Module, projection: Tensor) -> None:
    """W ← W P in the classifier head, in float64 and then in the head's own type."""
    weight = find_head(model)[1].weight
    with torch.no_grad():
        weight.copy_(
            (weight.double() @ projection.to(weight.device, torch.float64)).to(weight.dtype)
        )
