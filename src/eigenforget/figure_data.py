"""The series behind a report's figures: alignment curves, spectra, a map of the features, accuracy by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from eigenforget import seeds
from eigenforget.alignment import Centering, Form, Moments, alignment_curve, eigenspace
from eigenforget.audits.evidence import PartOutputs, Seen
from eigenforget.metrics import PanelAlignment
from eigenforget.types import EigenforgetError, Part, listed

MAX_CONFUSION = 100
"""Beyond this many classes a confusion matrix is neither readable nor small."""


def alignment_series(metric: PanelAlignment) -> dict[str, Any]:
    """DA curves in both forms and centerings, and both sides' spectra."""
    forget, retain = metric.sides()
    curves: dict[str, Any] = {}
    for centering in get_args(Centering):
        for form in get_args(Form):
            try:
                curve = alignment_curve(forget, retain, form=form, centering=centering)
            except EigenforgetError:
                continue  # constant features have no centred eigenspace; the score says so, the figure leaves it out
            curves[f"{form}_{centering}"] = short(curve.cpu().numpy())
    # Centring can lower the rank, and with it the last k; one axis of k serves all curves of a model.
    last = min((len(c) for c in curves.values()), default=0)
    cut = {name: curve[:last] for name, curve in curves.items()}
    return {
        "da_curve": {"k": list(range(1, last + 1)), "headline_k": metric.k, **cut} if last else {},
        "spectrum": {"forget": _spectrum(forget), "retain": _spectrum(retain)},
    }


def feature_map(seen: Seen, *, forgotten_classes: Sequence[int], ids: Sequence[str] | None, points: int, seed: int) -> dict[str, Any]:
    """Two leading principal components of the held-out features, for a fixed sample of them; ids name the held-out samples."""
    held = [seen[p] for p in ("test_forget", "test_retain") if p in seen]
    features = np.concatenate([h.features for h in held]).astype(np.float64)
    labels = np.concatenate([h.labels for h in held])
    if features.shape[1] == 1:  # a map has two axes
        features = np.pad(features, ((0, 0), (0, 1)))
    centred = features - features.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    rng = np.random.default_rng(seeds.derive(seed, "map"))
    rows = np.sort(rng.permutation(len(features))[:points])
    places = centred[rows] @ axes
    total = max(values.sum(), np.finfo(np.float64).tiny)
    names = ids if ids is not None else [str(i) for i in range(len(features))]
    return {
        "x": short(places[:, 0]), "y": short(places[:, 1]), "label": labels[rows].tolist(), "id": [str(names[r]) for r in rows],
        "forget": np.isin(labels[rows], list(forgotten_classes)).tolist(), "explained": short(values[::-1][:2] / total),
    }  # fmt: skip


def class_series(seen: Seen, num_classes: int) -> dict[str, Any]:
    """Accuracy and count of each class on training and on held-out samples, and the held-out confusion matrix (rows: true class)."""
    sides: dict[str, tuple[Part, ...]] = {"train": ("forget", "retain"), "test": ("test_forget", "test_retain")}
    counted = {side: _confusion([seen[p] for p in parts if p in seen], num_classes) for side, parts in sides.items()}
    table: dict[str, Any] = {"label": list(range(num_classes))}
    for side, counts in counted.items():
        total = counts.sum(axis=1)
        table[f"{side}_count"] = total.tolist()
        table[side] = [None if n == 0 else float(f"{right / n:.6g}") for right, n in zip(counts.diagonal(), total, strict=True)]
    confusion = {"counts": counted["test"].tolist()} if num_classes <= MAX_CONFUSION else {}
    return {"per_class": table, "confusion": confusion}


def group_accuracy(rows: PartOutputs, groups: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Accuracy on each group of rows. Errors: a group without rows."""
    empty = [name for name, members in groups.items() if not len(members)]
    if empty:
        raise EigenforgetError(f"a group of forget samples has no rows: {listed(empty)}")
    right = rows.logits.argmax(axis=1) == rows.labels
    return {name: float(f"{right[members].mean():.6g}") for name, members in groups.items()}


def short(values: np.ndarray) -> list[float]:
    """Six significant digits: enough for a figure, and half the size on disk."""
    return [float(f"{v:.6g}") for v in values]


def _confusion(parts: Sequence[PartOutputs], num_classes: int) -> np.ndarray:
    """Counts [true class, predicted output]; a head may have more outputs than the data has classes."""
    width = max([num_classes, *(rows.logits.shape[1] for rows in parts)])
    counts = np.zeros((num_classes, width), dtype=np.int64)
    for rows in parts:
        np.add.at(counts, (rows.labels, rows.logits.argmax(axis=1)), 1)
    return counts


def _spectrum(side: Moments) -> list[float]:
    """Uncentred eigenvalues in descending order as shares of their sum."""
    try:
        values = eigenspace(side.gram("none")).values
    except EigenforgetError:
        return []
    return short((values / values.sum()).cpu().numpy())
