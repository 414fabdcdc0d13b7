"""by_class: whole classes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import ClassLabel, Duplicates, class_numbers, rows_of_classes


@configured
class ByClass:
    """Forget every training sample of one or several classes."""

    name: ClassVar[str] = "by_class"
    personal: ClassVar[dict[str, str]] = {}
    label: Annotated[
        ClassLabel | tuple[ClassLabel, ...],
        "number or name of a class, or several as a tuple",
    ]
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        return rows_of_classes(index, self.label)

    def whole_classes(self, index: Index) -> tuple[int, ...]:
        """The classes that it names."""
        return class_numbers(index, self.label)
