"""Toys that several tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np

from eigenforget.core.types import Index

N = 24


LABELS = np.arange(N) % 3


FINE = np.array([f"{'abc'[i % 3]}{i % 6}" for i in range(N)])  # two fine labels inside each class


def index(order: np.ndarray | None = None, **columns: Any) -> Index:
    order = np.arange(N) if order is None else order
    ids = np.array([f"id{i:03d}" for i in range(N)])
    made = {
        "fine": FINE,
        "age": np.arange(N) * 2,
        "weight": np.linspace(0, 1, N),
        "checked": np.arange(N) % 2 == 0,
        "day": np.array([f"2024-05-{i + 1:02d}" for i in range(N)]),
        **columns,
    }
    groups = np.array([f"patient{i % 5}" for i in range(N)])
    return Index(
        ids[order],
        LABELS[order],
        groups[order],
        columns={k: np.asarray(v)[order] for k, v in made.items()},
    )
