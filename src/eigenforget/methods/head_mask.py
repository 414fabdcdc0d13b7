"""head_mask: a control, the cheat that output metrics do not see."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Task
from eigenforget.models.heads import linear_head

_NEVER = -1e4


@configured
class HeadMask(Method):
    """Set the head's bias of each class that is gone as a whole to −1e4, and change nothing else.

    These classes are never predicted, retain accuracy can only rise, and every feature is bit for
    bit that of the original.
    """

    name: ClassVar = "head_mask"
    source: ClassVar = "negative control; compare head distillation in arXiv 2405.17878"
    needs: ClassVar = ("whole classes forgotten", "a head with bias")
    guarantee: ClassVar = "none: nothing is forgotten"
    role: ClassVar = "control"
    passes: ClassVar = "none"

    def __call__(self, task: Task) -> nn.Module:
        gone = task.needs_gone_classes(self.name)
        student = task.student()
        name, head = linear_head(student, self.name, changes=("bias",))
        if head.bias is None:
            raise Refused(f"head_mask needs a classifier head with a bias; {name} has none")
        with torch.no_grad():
            head.bias[gone] = _NEVER
        return student.eval()
