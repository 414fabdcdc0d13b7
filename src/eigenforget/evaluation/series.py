"""The series behind a report's figures that need outputs only: maps of features, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.linalg import eigh

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.text import listed
from eigenforget.core.types import Part
from eigenforget.evaluation.evidence import Observation, PartOutputs

MAX_CONFUSION = 100
"""Beyond this many classes a confusion matrix is neither readable nor small."""

CLASS_DIRECTIONS = 1
"""Directions that stand for a retained class."""

CLASS_SAMPLES = 200
"""Samples that a class's directions are made of: enough for the leading one, and quick."""

FURTHER_MAPS = ("tsne", "umap")
"""Maps of the features that are made on demand."""

_PERPLEXITY, _NEIGHBOURS = 30.0, 15


def map_series(
    seen: Observation,
    kinds: Sequence[str] = (),
    *,
    forgotten_classes: Sequence[int],
    ids: Sequence[str] | None,
    points: int,
    seed: int,
) -> dict[str, Any]:
    """A fixed sample of the held-out samples in two dimensions: "pca", and further maps by name.

    pca shows the two leading principal components of all held-out features; `explained` is their
    share of the variance. tsne and umap are of the sampled features only, so the places of few
    points say less; they are left out where there is nothing to spread. All maps show the same
    samples, and the same seed gives the same bits on one machine.

    Args:
        seen: The model's outputs.
        kinds: Further maps, of FURTHER_MAPS.
        forgotten_classes: Classes that are gone as a whole.
        ids: Names of the held-out samples: test_forget, then test_retain.
        points: Samples in a map.
        seed: The sample and the maps follow from it.
    """
    held = [seen[p] for p in ("test_forget", "test_retain") if p in seen]
    features = np.concatenate([h.features for h in held]).astype(np.float64)
    labels = np.concatenate([h.labels for h in held])
    if features.shape[1] == 1:  # a map has two axes
        features = np.pad(features, ((0, 0), (0, 1)))
    rng = np.random.default_rng(seeds.derive(seed, "map"))
    rows = np.sort(rng.permutation(len(features))[:points])
    names = ids if ids is not None else [str(i) for i in range(len(features))]
    whose = {
        "label": labels[rows].tolist(),
        "id": [str(names[r]) for r in rows],
        "forget": np.isin(labels[rows], list(forgotten_classes)).tolist(),
    }
    places, explained = _principal(features)
    maps: dict[str, Any] = {
        "pca": {**_places(places[rows]), **whose, "explained": short(explained)}
    }
    for kind in kinds:
        spread = _embedded(kind, features[rows], seeds.derive(seed, kind) % 2**32)
        maps[kind] = {} if spread is None else {**_places(spread), **whose}
    return maps


def check_maps(kinds: Sequence[str]) -> None:
    """Checks the kinds of further maps.

    Raises:
        EigenforgetError: One is unknown, named twice, or its library is not installed.
    """
    unknown = [kind for kind in kinds if kind not in FURTHER_MAPS]
    if unknown or len(set(kinds)) < len(kinds):
        raise EigenforgetError(
            f"further maps are of {listed(FURTHER_MAPS)}, each once; got {listed(kinds)}"
        )
    if "umap" in kinds:
        _umap()


def class_series(
    seen: Observation, num_classes: int, forgotten_classes: Sequence[int] = ()
) -> dict[str, Any]:
    """Accuracy and count of each class on both kinds of samples, and the held-out confusion matrix.

    The rows of the matrix are true classes.
    """
    sides: dict[str, tuple[Part, ...]] = {
        "train": ("forget", "retain"),
        "test": ("test_forget", "test_retain"),
    }
    counted = {
        side: _confusion([seen[p] for p in parts if p in seen], num_classes)
        for side, parts in sides.items()
    }
    table: dict[str, Any] = {"label": list(range(num_classes))}
    for side, counts in counted.items():
        total = counts.sum(axis=1)
        table[f"{side}_count"] = total.tolist()
        table[side] = [
            None if n == 0 else float(f"{right / n:.6g}")
            for right, n in zip(counts.diagonal(), total, strict=True)
        ]
    whole = {"counts": counted["test"].tolist(), "forgotten": [int(c) for c in forgotten_classes]}
    confusion = whole if num_classes <= MAX_CONFUSION else {}
    return {"per_class": table, "confusion": confusion}


def class_alignment_series(seen: Observation) -> dict[str, Any]:
    """Where the forget set lies: the share of its energy in the subspace of each retained class.

    U_c [D, k] are the leading eigenvectors of the features of retained class c, as they are, and
    the share is tr(U_cᵀ G_f U_c) / tr(G_f), the energy form of alignment with that class. k is 1:
    the headline alignment has one direction for each retained class, too. A class with no energy
    has no share. The subspaces of two classes may overlap, so the shares need not sum to 1.

    Returns:
        "class_alignment", with "label", "energy" and "k"; empty for more than MAX_CONFUSION
        classes, and for features that have no direction to spare or no energy.
    """
    retain, forget = seen["retain"], seen["forget"].features.astype(np.float64)
    classes = np.unique(retain.labels)
    energy = np.square(forget).sum()
    if len(classes) > MAX_CONFUSION or forget.shape[1] <= CLASS_DIRECTIONS or not energy > 0:
        return {"class_alignment": {}}
    shares: list[float | None] = []
    for label in classes:
        rows = np.flatnonzero(retain.labels == label)
        rows = rows[:: -(-len(rows) // CLASS_SAMPLES)]
        basis = _leading_of(retain.features[rows])
        share = None if basis is None else np.square(forget @ basis).sum() / energy
        shares.append(None if share is None else float(f"{share:.6g}"))
    whole = {"label": classes.tolist(), "energy": shares, "k": CLASS_DIRECTIONS}
    return {"class_alignment": whole}


def _leading_of(features: np.ndarray) -> np.ndarray | None:
    """The leading eigenvectors [D, k] of a class; None where its features are zero or too few."""
    rows = features.astype(np.float64)
    wide = rows.shape[1] > len(rows)
    gram = rows @ rows.T if wide else rows.T @ rows
    last = len(gram) - 1
    first = last - CLASS_DIRECTIONS + 1
    if first < 0 or not 0 < np.trace(gram) < np.inf:
        return None
    # Only these: all of them take several times as long.
    _, vectors = eigh(gram, subset_by_index=[first, last])
    return np.linalg.qr(rows.T @ vectors)[0] if wide else np.asarray(vectors)


def group_accuracy(rows: PartOutputs, groups: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Accuracy on each group of rows.

    Raises:
        EigenforgetError: A group has no rows.
    """
    empty = [name for name, members in groups.items() if not len(members)]
    if empty:
        raise EigenforgetError(f"a group of forget samples has no rows: {listed(empty)}")
    right = rows.logits.argmax(axis=1) == rows.labels
    return {name: float(f"{right[members].mean():.6g}") for name, members in groups.items()}


def short(values: np.ndarray) -> list[float]:
    """Six significant digits: enough for a figure, and half the size on disk."""
    return [float(f"{v:.6g}") for v in values]


def _confusion(parts: Sequence[PartOutputs], num_classes: int) -> np.ndarray:
    """Counts [true class, predicted output].

    A head may have more outputs than the data has classes.
    """
    width = max([num_classes, *(rows.logits.shape[1] for rows in parts)])
    counts = np.zeros((num_classes, width), dtype=np.int64)
    for rows in parts:
        np.add.at(counts, (rows.labels, rows.logits.argmax(axis=1)), 1)
    return counts


def _principal(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [N, 2] in the two leading principal directions, and the shares [2] of the variance."""
    centred = features - features.mean(0)
    if len(centred) < centred.shape[1]:
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        values, axes = singular[::-1] ** 2, directions[:2].T
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    total = max(values.sum(), np.finfo(np.float64).tiny)
    lacking = 2 - axes.shape[1]  # one sample has one direction at most, and a map two axes
    places = np.pad(centred @ axes, ((0, 0), (0, lacking)))
    return places, np.pad(values[::-1][:2] / total, (0, lacking))


def _embedded(kind: str, features: np.ndarray, seed: int) -> np.ndarray | None:
    """Places [N, 2] by t-SNE or UMAP; None for fewer than 5 samples or constant features.

    t-SNE (van der Maaten & Hinton 2008): from the principal directions, perplexity 30, at most a
    third of the samples. UMAP (arXiv 1802.03426): 15 neighbours, fewer where there are no more
    samples.
    """
    if len(features) < 5 or not np.ptp(features, axis=0).any():
        return None
    if kind == "umap":
        return np.asarray(
            _umap()
            .UMAP(n_neighbors=min(_NEIGHBOURS, len(features) - 1), random_state=seed, n_jobs=1)
            .fit_transform(features)
        )
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    made = TSNE(perplexity=min(_PERPLEXITY, (len(features) - 1) / 3), init="pca", random_state=seed)
    # Threads add up the forces in whatever order they finish, and the last bits with them.
    with threadpool_limits(limits=1):
        return np.asarray(made.fit_transform(features))


def _umap() -> Any:
    return needed("umap", extra="umap", what="a UMAP map")


def _places(places: np.ndarray) -> dict[str, list[float]]:
    return {"x": short(places[:, 0]), "y": short(places[:, 1])}
