"""Toys that several tests of this folder share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

GOOD, BAD_WORDS = ("fine", "splendid", "lovely"), ("dull", "awful", "poor")


def reviews(n: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(n):
        words = [
            str(rng.choice(GOOD if row % 2 else BAD_WORDS)) for _ in range(int(rng.integers(2, 9)))
        ] + ["The", "film's", "plot"]
        rows.append(
            {
                "text": f"{' '.join(map(str, rng.permutation(words)))}!",
                "label": "good" if row % 2 else "bad",
                "who": f"w{row % 5}",
                "nr": row,
            }
        )
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8"
    )
    return str(path)
