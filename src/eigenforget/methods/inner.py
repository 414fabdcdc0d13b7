"""What a method that wraps another accepts as `inner`."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from eigenforget.types import Method


def inner_method(value: Any) -> Any:
    """The value, if it is a method that unlearns. ValueError (for pydantic): it is no method, or a control."""
    if isinstance(value, type) or not (dataclasses.is_dataclass(value) and callable(value) and hasattr(value, "needs")):
        raise ValueError(f"a method is needed, such as random_label(), got {value!r}")
    method = cast("Method", value)
    if method.role == "control":
        raise ValueError(f"{method.name} is a control, and stays one inside another method")
    return value
