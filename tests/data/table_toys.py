"""Toys that several tests of this folder share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from eigenforget.data import Data

COLOURS = ("red", "green", "blue")


def people(n: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "name": f"p{row:03}",
            "age": int(rng.integers(18, 90)),
            "income": float(rng.normal(3e4, 9e3)),
            "colour": COLOURS[row % 3],
            "zip": f"0{rng.integers(1000, 1003)}",
            "species": ("dog", "cat")[int(rng.integers(2))],
            "house": f"h{row % 7}",
        }
        for row in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def positions(data: Data) -> dict[str, list[int]]:
    """Rows of the file on each side, from ids as people() makes them."""
    return {
        side: [int(i[1:]) for i in index.ids]
        for side, index in (("train", data.train_index), ("test", data.test_index))
    }


def reference(
    rows: list[dict[str, Any]],
    chosen: dict[str, list[int]],
    numeric: list[str],
    categorical: list[str],
) -> dict[str, np.ndarray]:
    """Imputed, scaled and one-hot encoded by scikit-learn, fitted on the training rows."""

    def table(side: str, names: list[str], kind: Any) -> np.ndarray:
        return np.array([[rows[row][name] for name in names] for row in chosen[side]], dtype=kind)

    imputer, scaler = SimpleImputer(), StandardScaler()
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    scaler.fit(imputer.fit_transform(table("train", numeric, float)))
    encoder.fit(table("train", categorical, object))
    return {
        side: np.concatenate(
            [
                scaler.transform(imputer.transform(table(side, numeric, float))),
                encoder.transform(table(side, categorical, object)),
            ],
            axis=1,
        )
        for side in ("train", "test")
    }


OPTIONS: dict[str, Any] = {
    "label": "species",
    "id": "name",
    "group": "house",
    "categorical": ("colour", "zip"),
}
