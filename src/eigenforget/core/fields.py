"""Number types that the fields of specs share.

A string beside the type is the help text of the field, as in
`alpha: Annotated[NonNegative, "weight of the penalty"] = 0.5`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
TwoOrMore = Annotated[int, Field(ge=2)]
WholeNumber = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
UpTo1 = Annotated[float, Field(gt=0, le=1)]
Between01 = Annotated[float, Field(gt=0, lt=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
FinitePositive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonEmpty = Annotated[str, Field(min_length=1)]
