"""Number types that the fields of specs share.

A string beside the type is the help text of the field, as in
`alpha: Annotated[NonNegative, "weight of the penalty"] = 0.5`. `configured` takes no
infinite number anyway.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

_MOST = 10**9
"""Epochs, steps, samples and widths: more is a slip of the keyboard, and would never end."""

Count = Annotated[int, Field(ge=1, le=_MOST)]
TwoOrMore = Annotated[int, Field(ge=2, le=_MOST)]
WholeNumber = Annotated[int, Field(ge=0, lt=2**63)]
LayerWidth = Annotated[int, Field(ge=1, le=2**16)]
LayerCount = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
UpTo1 = Annotated[float, Field(gt=0, le=1)]
Between01 = Annotated[float, Field(gt=0, lt=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
NonEmpty = Annotated[str, Field(min_length=1)]
