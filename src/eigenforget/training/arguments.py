"""Checks of the arguments that the doors share: one line that names it, before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import PurePath
from typing import Any, NamedTuple

from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.checkpoint import Checkpoint
from eigenforget.training.engine import Engine


class ArgumentRule(NamedTuple):
    """What an argument may be.

    Attributes:
        kind: Its type.
        words: The type in words.
        low: The smallest number that it may be.
        required: Whether it may not be None.
    """

    kind: Any
    words: str
    low: int | None = None
    required: bool = False


_RULES = {
    "model": ArgumentRule(nn.Module, "a torch.nn.Module", required=True),
    "seed": ArgumentRule(Integral, "an integer", required=True),
    "engine": ArgumentRule(Engine, "an Engine"),
    "layer": ArgumentRule(str, "the name of a layer"),
    "log": ArgumentRule(Callable, "a function of a row"),
    "look": ArgumentRule(Callable, "a function of a model"),
    "allow_overlap": ArgumentRule(bool, "True or False"),
    "k": ArgumentRule(Integral, "an integer of 1 or more", low=1),
    "num_classes": ArgumentRule(Integral, "an integer of 2 or more", low=2),
    "map_points": ArgumentRule(Integral, "an integer of 1 or more", low=1, required=True),
}
"""The arguments that doors have in common, by name."""


def check_arguments(**given: Any) -> None:
    """Checks arguments of a door by their names.

    Raises:
        EigenforgetError: One is of a wrong type or too small.
    """
    for name, value in given.items():
        rule = _RULES[name]
        if value is None and not rule.required:
            continue
        fits = isinstance(value, rule.kind) and (isinstance(value, bool) == (rule.kind is bool))
        if not fits or (rule.low is not None and value < rule.low):
            shown = f" {value!r}" if isinstance(value, (int, float, str)) else ""
            got = f"{type(value).__name__}{shown}"
            words = rule.words if rule.required else f"{rule.words} or None"
            hint = _cure(value) if name == "model" else ""
            raise EigenforgetError(f"{name} must be {words}, got {got}{hint}")


def _cure(value: Any) -> str:
    """What to do with what is given in place of a model."""
    if isinstance(getattr(value, "model", None), nn.Module):
        return "; give its attribute model"
    if isinstance(value, (str, PurePath, Mapping, Checkpoint)):
        return "; give a model with these weights, as load_checkpoint(path, model) does"
    return ""


def check_classes_exist(classes: Sequence[int] | None, num_classes: int) -> None:
    """Checks that classes that are said to be gone are outputs of the model.

    Raises:
        EigenforgetError: One is not.
    """
    outside = [c for c in classes or () if not 0 <= c < num_classes]
    if outside:
        raise EigenforgetError(
            f"forgotten_classes: {outside[0]} is not one of the model's classes, 0 to "
            f"{num_classes - 1}"
        )
