"""head_mask: the cheat that output metrics do not see. A negative control, never recommended."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.models.heads import linear_head

_NEVER = -1e4


@configured
class HeadMask:
    """Set the classifier's bias of each forgotten class to −1e4 and change nothing else.

    Forgotten classes are never predicted, retained accuracy can only rise, and every feature stays
    bit for bit the original's.
    """

    name: ClassVar[str] = "head_mask"
    source: ClassVar[str] = "negative control; compare head distillation in arXiv 2405.17878"
    needs: ClassVar[tuple[str, ...]] = ("whole classes forgotten", "a head with bias")
    guarantee: ClassVar[str] = "none: nothing is forgotten"
    role: ClassVar[Literal["unlearned", "control"]] = "control"
    passes: ClassVar[str] = "none"

    def __call__(self, task: Task) -> nn.Module:
        if not task.forgotten_classes:
            raise Refused("head_mask needs a class that is forgotten as a whole")
        student = task.student()
        name, head = linear_head(student, self.name, changes=("bias",))
        if head.bias is None:
            raise Refused(f"head_mask needs a classifier head with a bias; {name} has none")
        with torch.no_grad():
            head.bias[list(task.forgotten_classes)] = _NEVER
        return student.eval()
