"""by_group: all samples of a person, a device, a site."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates
from eigenforget.requests.typed import rows_with


@configured
class ByGroup:
    """Forget every training sample of one or several groups, such as all pictures of a patient."""

    name: ClassVar[str] = "by_group"
    personal: ClassVar[dict[str, str]] = {"group": "group"}
    group: Annotated[str | int | tuple[str | int, ...], "group, or groups as a tuple"]
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        return rows_with(index, "group", self.group)
