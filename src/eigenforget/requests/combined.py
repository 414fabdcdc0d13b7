"""Union and difference of requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from eigenforget.core.spec import configured
from eigenforget.core.types import Index
from eigenforget.requests.request import Duplicates, as_tuple, inner_request, inner_requests
from eigenforget.requests.splitting import selected, whole_classes

Requests = Annotated[
    tuple[Any, ...],
    BeforeValidator(as_tuple),
    AfterValidator(inner_requests),
    "requests, as in (by_class(label=3), at_random(n=5))",
]
Request = Annotated[Any, AfterValidator(inner_request)]


@configured
class Union:
    """Forget what any of the requests selects.

    An inner request with duplicates="forget" also selects the copies of its samples; the field
    `duplicates` of this request applies to the union as a whole.
    """

    name: ClassVar[str] = "union"
    personal: ClassVar[dict[str, str]] = {}
    requests: Requests
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        return np.flatnonzero(
            np.logical_or.reduce([selected(request, index) for request in self.requests])
        )

    def whole_classes(self, index: Index) -> tuple[int, ...]:
        """The classes that any of the requests takes as a whole."""
        return tuple(c for request in self.requests for c in whole_classes(request, index))


@configured
class Difference:
    """Forget what `of` selects, without what `without` selects. Copies as in union."""

    name: ClassVar[str] = "difference"
    personal: ClassVar[dict[str, str]] = {}
    of: Annotated[Request, "request to take samples from, such as by_class(label=3)"]
    without: Annotated[Request, "request for the samples of it to keep"]
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget."""
        return np.flatnonzero(selected(self.of, index) & ~selected(self.without, index))
