"""by_subclass: one finer label inside a class of the model."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates
from eigenforget.requests.typed import ColumnValue, rows_with


@configured
class BySubclass:
    """Forget every training sample with one or several values of a column finer than the labels.

    The model knows only the coarse classes (CIFAR-20), and one fine label among them is to be
    forgotten ("rocket" among vehicles). The coarse class usually keeps other samples, so no class
    is forgotten as a whole.
    """

    name: ClassVar[str] = "by_subclass"
    personal: ClassVar[dict[str, str]] = {"value": "column:{column}"}
    column: Annotated[str, "column of the data with the finer labels"] = "fine"
    value: Annotated[
        ColumnValue | tuple[ColumnValue, ...],
        "finer label, or labels as a tuple",
    ]
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        return rows_with(index, self.column, self.value)
