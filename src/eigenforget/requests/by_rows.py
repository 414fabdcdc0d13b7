"""by_rows: samples by their place in the training data."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import BeforeValidator

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates, as_tuple


@configured
class ByRows:
    """Forget the training samples in these rows, the first of which is row 0.

    Rows count the training data as it is loaded, after a test set was held out. When the data
    changes, rows mean other samples; ids do not.
    """

    name: ClassVar[str] = "by_rows"
    personal: ClassVar[dict[str, str]] = {"rows": "column:row"}
    rows: Annotated[tuple[int, ...], BeforeValidator(as_tuple), "numbers of rows, from 0"]
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget.

        Raises:
            EigenforgetError: No row is named, or one that is not there.
        """
        if not self.rows:
            raise EigenforgetError("by_rows selects nothing: give rows=(…)")
        outside = [row for row in self.rows if not 0 <= row < len(index)]
        if outside:
            raise EigenforgetError(
                f"rows {listed(outside)} are not in the training data, which has rows 0 to "
                f"{len(index) - 1}"
            )
        return np.unique(np.asarray(self.rows, dtype=np.int64))
