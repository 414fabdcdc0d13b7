"""ESC: project the forget data's principal directions away before the classifier head. A plug-in,
not a change of features.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.alignment import Eigenspace, eigenspace, merge, moments
from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.models.features import find_head
from eigenforget.models.heads import linear_head


@configured
class ESC:
    """Fold the projection P = I − U_k U_kᵀ into the head, W ← W P, with U_k the leading k left
    singular vectors of the forget features.

    Logits become W P f + b. All weights before the head are the original's, and so are the features
    that enter it: nothing is removed from the model, the head only stops looking. Features are not
    centred; k is `drop_percent` of the feature width, rounded down, but at least 1 and at most the
    rank of the forget features.
    """

    name: ClassVar[str] = "esc"
    source: ClassVar[str] = (
        "Lee et al.: ESC, Erasing Space Concept for Knowledge Deletion, CVPR 2025, arXiv 2504.02199. Deviations: "
        "folded into the head's weight; the complement of U_k is kept whole, where the authors keep only what the "
        "N_f forget features span (equal for N_f ≥ D)"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "a linear head on the features")
    guarantee: ClassVar[str] = (
        "none: plug-in; original weights still present; features before the head are the original's"
    )
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "forward: forget"
    recipes: ClassVar[dict[str, dict[str, float]]] = {"cifar10-allcnn": {"drop_percent": 3.0}}

    drop_percent: Annotated[
        float, Field(gt=0, lt=100, description="share of feature directions dropped, in percent")
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
    """Left singular vectors of the forget features at the head's input, by falling singular value,
    and the features [N_f, D].
    """
    name, head = linear_head(model, method, changes=("weight",))
    rows = torch.cat([outputs.features for _, outputs in task.engine.forward(model, task.forget)])
    if rows.shape[1] != head.in_features:
        got = f"{rows.shape[1]} values for {head.in_features} inputs"
        raise Refused(
            f"{method} needs one feature vector per sample before the head {name}, got {got}"
        )
    total = None
    for part in rows.split(4096):
        total = moments(part) if total is None else merge(total, moments(part))
    assert total is not None  # a Source is never empty
    return eigenspace(total.gram("none")), rows


def fold(model: nn.Module, projection: Tensor) -> None:
    """W ← W P in the classifier head, in float64 and then in the head's own type."""
    weight = find_head(model)[1].weight
    with torch.no_grad():
        weight.copy_(
            (weight.double() @ projection.to(weight.device, torch.float64)).to(weight.dtype)
        )
