"""sequence: deletion requests that arrive one after the other."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index, Split
from eigenforget.requests.combined import Requests
from eigenforget.requests.request import ForgetRequest
from eigenforget.requests.splitting import check_copies, selected, sides


@configured
class Sequential:
    """Deletions that are honoured one after the other.

    It selects nothing as such: steps() gives the split after each of them.
    """

    name: ClassVar[str] = "sequence"
    personal: ClassVar[dict[str, str]] = {}
    requests: Requests
    again: Annotated[
        Literal["error", "skip"],
        "samples that an earlier step forgot already: 'error' names the ids, "
        "'skip' passes them over",
    ] = "error"


class Step(NamedTuple):
    """One deletion of a sequence.

    Args:
        request: The deletion.
        split: Everything forgotten up to this step, and what is retained after it.
        new: Positions that this step is the first to forget; with again="skip" there may be none,
            and then nothing is left to do.
    """

    request: ForgetRequest
    split: Split
    new: np.ndarray


def steps(request: ForgetRequest | Sequential, index: Index) -> list[Step]:
    """The steps of a sequence, or the one step of a plain request.

    The last split is that of the union of the requests.

    Raises:
        EigenforgetError: What split() refuses, or samples that an earlier step forgot already
            (unless again="skip"); the message names the step.
    """
    plan = request if isinstance(request, Sequential) else None
    requests = plan.requests if plan else (request,)
    found: list[Step] = []
    gone = np.zeros(len(index), dtype=bool)
    for number, one in enumerate(requests, 1):
        name = f"step {number} ({one.name})" if plan else one.name
        try:
            wanted = selected(one, index)
            _check_again(index, wanted & gone, allowed=plan is not None and plan.again == "skip")
            check_copies(index, gone | wanted)
        except EigenforgetError as error:
            raise EigenforgetError(f"{name}: {error}" if plan else str(error)) from None
        if not wanted.any():
            raise EigenforgetError(f"{name} forgets none of the {len(index)} training samples")
        split = sides(name, index, gone | wanted, requests=requests[:number])
        found.append(Step(one, split, np.flatnonzero(wanted & ~gone)))
        gone = gone | wanted
    return found


def _check_again(index: Index, twice: np.ndarray, *, allowed: bool) -> None:
    if twice.any() and not allowed:
        count = int(twice.sum())
        were = "sample was" if count == 1 else "samples were"
        raise EigenforgetError(
            f"{count} {were} already forgotten by an earlier step: {listed(index.ids[twice])}; "
            f'say again="skip" (--again skip) to skip them'
        )
