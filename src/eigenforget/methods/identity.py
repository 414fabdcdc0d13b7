"""identity: the original, unchanged, a control that must never look like forgetting."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Task


@configured
class Identity(Method):
    """An exact copy of the original in eval mode."""

    name: ClassVar = "identity"
    source: ClassVar = "negative control: the original itself"
    needs: ClassVar = ("the model alone",)
    guarantee: ClassVar = "none: nothing is forgotten"
    role: ClassVar = "control"
    passes: ClassVar = "none"

    def __call__(self, task: Task) -> nn.Module:
        return task.student().eval()
