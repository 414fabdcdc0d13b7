"""REQUESTS: the kinds of requests by name, and what they hold that is personal.

Sequential is not in it: it is a list of deletions, for `steps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from eigenforget.core.imports import path_of
from eigenforget.core.registry import Registry, from_function
from eigenforget.record import Personal
from eigenforget.requests.at_random import AtRandom
from eigenforget.requests.by_class import ByClass
from eigenforget.requests.by_group import ByGroup
from eigenforget.requests.by_ids import ByIds
from eigenforget.requests.by_rows import ByRows
from eigenforget.requests.by_subclass import BySubclass
from eigenforget.requests.combined import Difference, Union
from eigenforget.requests.confused import ConfusedSamples
from eigenforget.requests.long_tailed import LongTailed
from eigenforget.requests.poisoned import PoisonedSamples
from eigenforget.requests.ranked import ByMemorisation, RankedSamples, WorstCase
from eigenforget.requests.request import ForgetRequest
from eigenforget.requests.sequential import Sequential
from eigenforget.requests.where import Where


def _of_function(function: Callable[..., Any]) -> type:
    """A request whose select() calls function(index, *, fields), which returns positions."""
    return from_function(function, call="select", given=("index",), duplicates="error")


REQUESTS: Registry[type] = Registry(
    "request",
    "eigenforget.requests",
    [
        ByClass,
        BySubclass,
        ByGroup,
        ByIds,
        ByRows,
        Where,
        AtRandom,
        RankedSamples,
        ByMemorisation,
        WorstCase,
        LongTailed,
        PoisonedSamples,
        ConfusedSamples,
        Union,
        Difference,
    ],
    requires=("name", "select"),
    wrap=_of_function,
)


def personal_fields(request: ForgetRequest | Sequential | None) -> dict[str, Personal]:
    """What each kind of request declares as personal, by the key that it has in records.

    Args:
        request: The request of a record: classes of the user's own file that stand in it declare
            theirs too.
    """
    kinds: tuple[Any, ...] = (*REQUESTS, Sequential)
    found = {kind.name: kind for kind in kinds}
    pending: list[Any] = [request]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            pending += item
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            found[path_of(type(item)) or getattr(item, "name", "")] = type(item)
            pending += [getattr(item, field.name) for field in dataclasses.fields(item)]
    return {
        key: Personal(kind.personal, {row.name: row.default for row in dataclasses.fields(kind)})
        for key, kind in found.items()
        if hasattr(kind, "personal")
    }
