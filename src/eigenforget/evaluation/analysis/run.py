"""All models of an analysis: the original and the retrained ones, one after the other, and how
similar their features are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.analysis.geometry import cka
from eigenforget.evaluation.analysis.series import Rows, Setting, draw, of_layer
from eigenforget.evaluation.board import Measurement, Panel
from eigenforget.evaluation.evidence import Observation
from eigenforget.models.features import find_head
from eigenforget.record.schema import Role
from eigenforget.training.log import Log


class Kept(NamedTuple):
    """Drawn features of one model, by layer and part, for comparisons with later models."""

    layers: dict[str, dict[Part, np.ndarray]]


def analyse(
    panel: Panel, models: Sequence[nn.Module], roles: Sequence[Role], *, log: Log | None = None
) -> list[Measurement]:
    """Each model with the series "analysis" {layer: {...}} and the scores da, da_energy (and
    "…@layer" at further layers).

    models: the original first, then retrained ones, as `roles` says. What the panel measures
    otherwise is left to `evaluate`. log: called after each model. Errors: unknown layers, features
    that are not finite, no linear head and no layer named.
    """
    found: list[Measurement] = []
    kept: list[Kept] = []
    for model, role in zip(models, roles, strict=True):
        started = time.perf_counter()
        series, rows = _of_model(panel, model)
        kept.append(rows)
        found.append(
            Measurement(
                role,
                _scores(series, panel.layers),
                {"analysis": series},
                time.perf_counter() - started,
            )
        )
        if log is not None:
            log({})
    for number, measured in enumerate(found):
        for layer, values in measured.series["analysis"].items():
            values["cka"] = _similarities(layer, number, kept, roles)
    return found


def _of_model(panel: Panel, model: nn.Module) -> tuple[dict[str, Any], Kept]:
    seen: Observation = {
        part: rows for part, rows in panel.observe(model).items() if part != "test_trigger"
    }
    k = panel.k or panel.num_classes - len(panel.forgotten_classes)
    setting = Setting(k, panel.seed, {part: rows.labels for part, rows in seen.items()})
    headline = panel.layer or f"input of {find_head(model)[0]}"
    drawn = {part: draw(len(rows.labels), panel.seed, part) for part, rows in seen.items()}
    series: dict[str, Any] = {}
    kept: dict[str, dict[Part, np.ndarray]] = {}
    for position, name in enumerate((*panel.layers, headline)):
        features = {
            part: rows.features if name == headline else rows.layers[name]
            for part, rows in seen.items()
        }
        _check_finite(name, features)
        series[name] = {
            "position": position,
            "headline": name == headline,
            **of_layer(features, setting),
        }
        kept[name] = {part: features[part][drawn[part]] for part in features}
    return series, Kept(kept)


def _similarities(
    layer: str, number: int, kept: Sequence[Kept], roles: Sequence[Role]
) -> dict[str, Any]:
    """Linear CKA with the original, and the mean over the other retrained models, by part; null
    where it is not defined.
    """
    found: dict[str, Any] = {}
    mine = kept[number].layers[layer]
    for name, role in (("original", "original"), ("oracle", "oracle")):
        others = [k.layers[layer] for i, k in enumerate(kept) if roles[i] == role and i != number]
        if not others:
            continue
        found[name] = {}
        for part, rows in mine.items():
            each = [cka(rows, other[part]) for other in others]
            known = [v for v in each if v is not None]
            found[name][part] = float(np.mean(known)) if len(known) == len(each) else None
    return found


def _scores(series: Mapping[str, Any], further: Sequence[str]) -> tuple[Score, ...]:
    scores = []
    for name, found in series.items():
        for score, key in (("da", "da"), ("da_energy", "energy")):
            full = f"{score}@{name}" if name in further else score
            value = found["values"]["forget"][key]
            reason = "" if value is not None else found["reasons"][key]
            scores.append(
                Score(full, value, "1", "reference", (0.0, 1.0), reason=reason, trace="below")
            )
    return tuple(scores)


def _check_finite(layer: str, features: Rows) -> None:
    for part, rows in features.items():
        if not np.isfinite(rows).all():
            raise EigenforgetError(
                f"part {part}, layer {layer!r}: the model's features are not finite; an analysis needs numbers"
            )
