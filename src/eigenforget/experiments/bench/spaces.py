"""What a search may change in each method: its class says so, in `search_space`."""

from __future__ import annotations

from collections.abc import Mapping

from eigenforget.methods import METHODS
from eigenforget.methods.base import Range

__all__ = ["SPACES", "Range"]

SPACES: dict[str, Mapping[str, Range]] = {
    kind.name: kind.search_space for kind in METHODS.own if kind.search_space
}
"""Methods that are not here (retrain, the controls) have nothing to tune."""
