"""Toys that several tests of this folder share."""

from __future__ import annotations

import numpy as np

from eigenforget.core.types import Index


def index(
    labels: list[int], content: list[str] | None = None, order: np.ndarray | None = None
) -> Index:
    n = len(labels)
    order = np.arange(n) if order is None else order
    ids = np.array([f"id{i:03d}" for i in range(n)])
    kept = None if content is None else np.array(content)[order]
    return Index(ids[order], np.array(labels)[order], content=kept)
