"""What is fuzzed: for each target a strategy of inputs, and what is done with one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

from fuzz import checkpoints, files, lines, records, small, specs
from fuzz.watching import Outcome, Workspace


class Target(NamedTuple):
    """One kind of inputs.

    Attributes:
        name: What they are called in the figures.
        share: Of all inputs.
        inputs: The strategy.
        run: Takes a workspace and an input, gives what happened.
    """

    name: str
    share: float
    inputs: st.SearchStrategy[Any]
    run: Callable[[Workspace, Any], Iterator[Outcome]]


TARGETS = (
    Target("command lines", 0.35, lines.COMMAND_LINES, lines.commanded),
    Target("specs", 0.2, specs.pairs(), specs.parsed),
    Target("readers", 0.25, files.DAMAGED, files.read),
    Target("records", 0.04, records.SEALED, records.recorded),
    Target("checkpoints", 0.05, checkpoints.CHECKPOINTS, checkpoints.stored),
    Target("plans", 0.05, small.PLANS, small.planned),
    Target("small files", 0.03, small.SMALL, small.small),
    Target("one byte", 0.03, records.BYTES, records.silent),
)
