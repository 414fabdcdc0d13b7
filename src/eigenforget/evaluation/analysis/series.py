"""One model at one layer: alignment, spectra, shares, angles, distances and a map.

The sets are the parts: forget (training data that the original saw and retrained models did not),
retain (training data that all saw), test_forget and test_retain (held-out samples, which none saw).
Convolution maps [B, D, H, W] are averaged over space, other outputs flattened
(features.flatten_features). Moments, and so alignment, spectra, ranks and angles, use all samples.
Neighbours, CKA and the map use at most CAP samples of each set, drawn by the seed and the same for
every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from eigenforget.alignment import (
    Centering,
    Form,
    Moments,
    alignment_curve,
    default_k,
    empty_moments,
    leading,
    merge,
    moments,
)
from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Part
from eigenforget.evaluation.analysis.geometry import (
    class_mean_distances,
    effective_ranks,
    energy_shares,
    neighbour_distances,
    principal_angles,
    principal_plane,
)
from eigenforget.evaluation.metrics.panel import samples_of
from eigenforget.evaluation.series import short

CAP = 5000
"""Samples of a set for what is quadratic in samples or kept for later models."""
DIRECTIONS = 5
"""Leading directions of a part whose angles to the retain set's eigenspace are taken.

At most D − k: any two subspaces whose dimensions add up to more than D share a direction, and that
angle 0 would say nothing."""
_MAP_POINTS: dict[Part, int] = {"retain": 300, "forget": 150, "test_forget": 150}
_CURVE_POINTS, _SPECTRUM, _BINS, _CHUNK = 64, 128, 25, 8192
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CENTRED: dict[Centering, str] = {"none": "", "each": "_centred"}
_FORMS: dict[Form, str] = {"frobenius": "da", "energy": "energy"}

FeatureRows = Mapping[Part, np.ndarray]


class AnalysisSettings(NamedTuple):
    """What all layers and models share.

    Attributes:
        k: Directions of the alignment.
        seed: The seed of draws.
        labels: Labels by part.
    """

    k: int
    seed: int
    labels: Mapping[Part, np.ndarray]


def of_layer(features: FeatureRows, settings: AnalysisSettings) -> dict[str, Any]:
    """The series of one model at one layer, as plain values for a record.

    Args:
        features: Feature rows [N, D] by part.
        settings: What all layers and models share.

    Returns:
        `values` {part: {name: number or None}}: da, da_centred, energy, energy_centred at k; share
        (median, see geometry.energy_shares); neighbours and class_mean (medians, see geometry);
        angle (degrees, the smallest) and angle_mean over DIRECTIONS. `reasons` {name: text} where a
        value is None. Beside them curves over k, spectra, ranks, quantiles and histograms of
        shares, a map.
    """
    sides = {part: _moments(rows) for part, rows in features.items()}
    k = default_k(settings.k, width=sides["retain"].width)
    reasons: dict[str, str] = {}
    values: dict[str, dict[str, float | None]] = {part: {} for part in features}
    curves = {
        part: _curves(part, sides, k, values[part], reasons)
        for part in features
        if part != "retain"
    }
    rows = {
        part: features[part][
            draw_samples(len(features[part]), seed=settings.seed, part=part)
        ].astype(np.float64)
        for part in features
    }
    return {
        "width": sides["retain"].width,
        "k": k,
        "samples": {part: len(f) for part, f in features.items()},
        "drawn": {part: len(r) for part, r in rows.items()},
        "curves": curves,
        "spectrum": {
            c: {part: _spectrum(side, c) for part, side in sides.items()}
            for c in get_args(Centering)
        },
        "rank": {
            c: {part: _ranks(side, c) for part, side in sides.items()} for c in get_args(Centering)
        },
        "shares": _shares(features, sides["retain"], k, values, reasons),
        "angles": _angles(sides, k, values, reasons),
        "distances": _distances(rows, features, settings.labels, values, reasons),
        "map": _map(rows, settings),
        "values": values,
        "reasons": reasons,
    }


def draw_samples(count: int, *, seed: int, part: Part) -> np.ndarray:
    """Sorted positions of at most CAP samples of a set, by seed and part alone."""
    if count <= CAP:
        return np.arange(count)
    return np.sort(
        np.random.default_rng(seeds.derive(seed, "analysis", part)).permutation(count)[:CAP]
    )


def _curves(
    part: Part,
    sides: Mapping[Part, Moments],
    k: int,
    values: dict[str, float | None],
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Alignment of a part with the retain set over k, thinned evenly in log k.

    Its values at the headline k go into `values`.
    """
    curves: dict[str, np.ndarray] = {}
    for form, stem in _FORMS.items():
        for centering, suffix in _CENTRED.items():
            name = stem + suffix
            values[name] = None
            try:
                curve = alignment_curve(
                    sides[part], sides["retain"], form=form, centering=centering
                ).numpy()
            except EigenforgetError as error:
                reasons.setdefault(name, str(error))
                continue
            curves[f"{form}_{centering}"] = curve
            if k <= len(curve):
                values[name] = float(curve[k - 1])
            else:
                reasons.setdefault(
                    name,
                    f"k = {k} is too large: DA is defined only up to k = {len(curve)} here",
                )
    last = min((len(c) for c in curves.values()), default=0)
    if not last:
        return {}
    points = np.unique(
        np.append(
            np.geomspace(1, last, _CURVE_POINTS).round().astype(int), [k] if k <= last else []
        ).astype(int)
    )
    return {
        "k": points.tolist(),
        **{name: short(curve[points - 1]) for name, curve in curves.items()},
    }


def _spectrum(side: Moments, centering: Centering) -> list[float]:
    values = _eigenvalues(side, centering)
    return short(values[:_SPECTRUM] / values.sum()) if len(values) else []


def _ranks(side: Moments, centering: Centering) -> dict[str, float | None]:
    """Effective ranks; None where all features are zero, or constant and centred."""
    values = _eigenvalues(side, centering)
    if not len(values):
        return {"participation": None, "entropy": None}
    return dict(effective_ranks(values)._asdict())


def _eigenvalues(side: Moments, centering: Centering) -> np.ndarray:
    # Rounding leaves a little in what is constant; it is no spectrum.
    if float(torch.trace(side.gram(centering))) <= 1e-12 * float(torch.trace(side.gram("none"))):
        return np.empty(0)
    found: np.ndarray = side.space(centering).values.numpy()
    return found


def _shares(
    features: FeatureRows,
    retain: Moments,
    k: int,
    values: dict[str, dict[str, float | None]],
    reasons: dict[str, str],
) -> dict[str, Any]:
    for of_part in values.values():
        of_part["share"] = None
    try:
        basis = leading(retain.space(), k, samples=int(retain.samples)).numpy()
    except EigenforgetError as error:
        reasons["share"] = str(error)
        return {}
    found: dict[str, Any] = {}
    for part, rows in features.items():
        chunks = [
            energy_shares(rows[i : i + _CHUNK].astype(np.float64), basis)
            for i in range(0, len(rows), _CHUNK)
        ]
        shares = np.concatenate(chunks)
        if not len(shares):
            reasons["share"] = f"all features of {samples_of(part)} are zero"
            continue
        counts = np.histogram(shares, bins=_BINS, range=(0.0, 1.0))[0]
        quantiles = short(np.quantile(shares, _QUANTILES))
        values[part]["share"] = float(np.median(shares))
        found[part] = {
            "quantiles": quantiles,
            "mean": short(shares.mean(keepdims=True))[0],
            "histogram": short(counts / counts.sum()),
        }
    return found


def _angles(
    sides: Mapping[Part, Moments],
    k: int,
    values: dict[str, dict[str, float | None]],
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Degrees between the DIRECTIONS leading directions of a part and the k of the retain set.

    Ascending; the smallest and the mean go into `values`.
    """
    found: dict[str, Any] = {}
    for centering, suffix in _CENTRED.items():
        for part in (p for p in sides if p != "retain"):
            names = f"angle{suffix}", f"angle_mean{suffix}"
            values[part] |= dict.fromkeys(names)
            try:
                basis = leading(
                    sides["retain"].space(centering), k, samples=int(sides["retain"].samples)
                )
                own = (
                    sides[part]
                    .space(centering)
                    .vectors[:, : min(DIRECTIONS, sides["retain"].width - k)]
                )
            except EigenforgetError as error:
                reasons |= dict.fromkeys(names, str(error))
                continue
            degrees = principal_angles(own.numpy(), basis.numpy())
            found.setdefault(centering, {})[part] = short(degrees)
            values[part] |= {names[0]: float(degrees[0]), names[1]: float(degrees.mean())}
    return found


def _distances(
    rows: FeatureRows,
    features: FeatureRows,
    labels: Mapping[Part, np.ndarray],
    values: dict[str, dict[str, float | None]],
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Quantiles of both distances by part; their medians go into `values`."""
    found: dict[str, Any] = {}
    for name, distances in (
        ("neighbours", neighbour_distances(rows)),
        (
            "class_mean",
            class_mean_distances(rows, retain=features["retain"], labels=labels["retain"]),
        ),
    ):
        for part in rows:
            values[part][name] = (
                None if isinstance(distances, str) else float(np.median(distances[part]))
            )
        if isinstance(distances, str):
            reasons[name] = distances
        else:
            found[name] = {part: short(np.quantile(d, _QUANTILES)) for part, d in distances.items()}
    return found


def _map(rows: FeatureRows, settings: AnalysisSettings) -> dict[str, Any]:
    """Samples in the two main directions of the retain set, which are fitted on it alone."""
    axes = principal_plane(rows["retain"])
    points: dict[str, Any] = {
        "explained": short(axes.explained),
        "x": [],
        "y": [],
        "label": [],
        "part": [],
    }
    for part, limit in _MAP_POINTS.items():
        if part not in rows:
            continue
        chosen = np.random.default_rng(seeds.derive(settings.seed, "map", part)).permutation(
            len(rows[part])
        )[:limit]
        places = axes.place(rows[part][chosen])
        labels = settings.labels[part][
            draw_samples(len(settings.labels[part]), seed=settings.seed, part=part)
        ][chosen]
        points["x"] += short(places[:, 0])
        points["y"] += short(places[:, 1])
        points["label"] += labels.tolist()
        points["part"] += [part] * len(chosen)
    return points


def _moments(rows: np.ndarray) -> Moments:
    total = empty_moments(rows.shape[1])
    for start in range(0, len(rows), _CHUNK):
        total = merge(total, moments(torch.from_numpy(rows[start : start + _CHUNK])))
    return total
