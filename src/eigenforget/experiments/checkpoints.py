"""Checkpoints to compare, and what is measured of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Checkpoints(NamedTuple):
    """Checkpoints to compare. peers: made in the same way as the one model, from other training
    seeds.
    """

    original: Path
    oracles: tuple[Path, ...]
    models: tuple[Path, ...]
    peers: tuple[Path, ...] = ()


class Scope(NamedTuple):
    """What is measured: the headline layer ("": the input of the classifier head), further layers,
    what is left out, and further maps.
    """

    layer: str = ""
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
