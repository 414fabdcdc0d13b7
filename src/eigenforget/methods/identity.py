"""identity: the original, unchanged. The control that every measure of forgetting must show as no
forgetting at all.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task


@configured
class Identity:
    """An exact copy of the original in eval mode."""

    name: ClassVar[str] = "identity"
    source: ClassVar[str] = "negative control: the original itself"
    needs: ClassVar[tuple[str, ...]] = ("the model alone",)
    guarantee: ClassVar[str] = "none: nothing is forgotten"
    role: ClassVar[Literal["unlearned", "control"]] = "control"
    passes: ClassVar[str] = "none"

    def __call__(self, task: Task) -> nn.Module:
        return task.student().eval()
