"""`analyze`: features of an original and of retrained models, layer by layer.

It shows the paper's first observation on your own models: how near data that a model never saw
lies to the features of data that it saw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.types import Part, Score
from eigenforget.data.sources import Source, as_source
from eigenforget.evaluation.analysis.geometry import cka
from eigenforget.evaluation.analysis.layers import earlier_layers
from eigenforget.evaluation.analysis.series import (
    AnalysisSettings,
    FeatureRows,
    draw_samples,
    of_layer,
)
from eigenforget.evaluation.board import Measurement, Panel
from eigenforget.evaluation.evaluate import (
    SampleSets,
    check_outputs,
    models_by_name,
    origin_of,
    own_errors,
    prepared_models,
)
from eigenforget.evaluation.evidence import Observation
from eigenforget.evaluation.observe import parts_of
from eigenforget.evaluation.records import evaluation_record, write_chain
from eigenforget.models.features import find_head, find_layer
from eigenforget.models.prepare import door
from eigenforget.models.wrappers import on_its_device
from eigenforget.record import RunRecord, atomic_folder, chained
from eigenforget.record.schema import Role
from eigenforget.report.figures.analysis_series import INDICATORS, analysis_records
from eigenforget.report.pages.analysis import headlines, write_analysis
from eigenforget.requests.splitting import classes_in, settled_classes
from eigenforget.training.arguments import check_arguments, check_classes_exist
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine, engine_beside
from eigenforget.training.log import Log
from eigenforget.training.recall import recall_if_any, warn_of_poor_recall

ModelFeatures = dict[str, dict[Part, np.ndarray]]
"""Features of drawn samples of one model, by layer and part."""

_TITLE = "Features of seen and unseen data"


@dataclass(frozen=True, repr=False)
class Analysis:
    """What `analyze` found; printed, a line for each layer.

    Attributes:
        measured: Scores and series of each model, by name, the original first.
        records: A sealed record of each model, chained in order.
    """

    measured: Mapping[str, Measurement]
    records: tuple[RunRecord, ...]

    def __repr__(self) -> str:
        return "\n".join(headlines(self.records))

    def to_frame(self) -> Any:
        """A pandas table with a row for each layer, set of samples and number.

        Its columns are the original's value, the mean of the retrained models, the half-width of
        their band, the gap, and whether the set lies nearer to the retain set in retrained models.

        Raises:
            EigenforgetError: pandas is not installed.
        """
        pandas = needed("pandas", extra="tables", what="to_frame()")
        found, rows = analysis_records(self.records), []
        for layer in found.layers():
            for part in (p for p in found.sets(layer) if p != "retain"):
                for name, indicator in INDICATORS.items():
                    value = found.contrast(layer, part, indicator)
                    retrained = (value.mean, value.gap) if value.says else (None, None)
                    half = None if value.band is None else value.band.half
                    rows.append((layer, part, name, value.original, *retrained, half, value.says))
        columns = ("layer", "part", "number", "original", "retrained", "gap", "half_width", "says")
        return pandas.DataFrame(rows, columns=columns).set_index(list(columns[:3]))

    def report(self, path: str | Path, *, title: str = _TITLE) -> Path:
        """Writes the page with every number and figure as one HTML file, and returns its path."""
        with own_errors():
            return write_analysis(self.records, path, title)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the records into a folder that `eigenforget verify` checks, and returns it."""
        with own_errors(), atomic_folder(folder, overwrite=overwrite) as draft:
            write_chain(self.records, draft)
        return Path(folder)


@door
def analyze(
    original: nn.Module | ModelAndCost,
    *,
    oracles: Mapping[str, nn.Module | ModelAndCost] | Sequence[nn.Module],
    forget: Any,
    retain: Any,
    test: Any = None,
    layers: Sequence[str] | None = None,
    layer: str | None = None,
    k: int | None = None,
    forgotten_classes: Sequence[int] | None = None,
    num_classes: int | None = None,
    allow_overlap: bool = False,
    engine: Engine | None = None,
    seed: int = 0,
) -> Analysis:
    """Compares where features lie in the original and in retrained models.

    The models stay as they are.

    Args:
        original: The model that was trained on forget and retain set.
        oracles: Models retrained without the forget set, by name or as a list. Two or more make a
            band; with one the distance alone counts.
        forget: The forget set: (inputs, labels), a map-style Dataset, a DataLoader, or Samples of
            one of these.
        retain: The retain set, likewise.
        test: Held-out samples, likewise. They serve as the control and as the unit of distances to
            neighbours; without them, neither is measured.
        layers: Further layers to look at; by default up to three blocks of the model, spread evenly
            over its depth.
        layer: The layer of the headline; by default the input of the classifier head.
        k: Directions of the alignment; by default the number of classes in `retain`.
        forgotten_classes: Classes that are forgotten as a whole. By default these are the classes
            of `forget` if `retain` has none of them, and no class otherwise. If `retain` lacks only
            some of them, that is a warning.
        num_classes: Labels are below this number; by default the largest label plus one.
        allow_overlap: Whether a sample may be in several of `forget`, `retain` and `test`; the
            records then say how many are. By default it is an error.
        engine: Where to compute; by default the GPU of a model, or else the best device there is.
        seed: Every draw of samples follows from it.

    Returns:
        The numbers of each model and what they say.

    Raises:
        EigenforgetError: An argument is wrong; the message is one line.
    """
    check_arguments(layer=layer, k=k, num_classes=num_classes, engine=engine, seed=seed)
    check_arguments(allow_overlap=allow_overlap)
    models = _models(original, oracles)
    held_out = None if test is None else as_source(test, "test")
    sides = SampleSets(as_source(forget, "forget"), as_source(retain, "retain"), held_out)
    sides.check(allow_overlap=allow_overlap)
    gone = settled_classes(sides.forget, sides.retain, forgotten_classes)
    parts: dict[Part, Any] = {"forget": sides.forget, "retain": sides.retain}
    if held_out is not None:
        both = {"retain": sides.retain, "test": held_out}
        parts = {**parts_of(sides.forget, **both, forgotten_classes=gone)}
    check_classes_exist(gone, num_classes or sides.classes)
    settled = _settled(models, sides, num_classes)
    engine = engine or engine_beside(*settled)
    with on_its_device(*settled):
        warn_of_poor_recall(recall_if_any(settled[0], sides.retain, engine, layer))
        further = _layers(layers, settled[0], sides.retain, engine=engine, layer=layer)
        panel = Panel(
            parts=parts,
            num_classes=num_classes or sides.classes,
            forgotten_classes=gone,
            engine=engine,
            seed=seed,
            layer=layer,
            layers=further,
            k=k,
        )
        roles: list[Role] = ["original", *(["oracle"] * (len(models) - 1))]  # type: ignore[list-item]
        measured = dict(zip(models, measure_features(panel, settled, roles), strict=True))
    origin, split = origin_of(
        panel, sides, made_by="eigenforget.analyze", inferred=forgotten_classes is None
    )
    chosen = "automatically" if layers is None else "by the user"
    job = {"layers": list(further), "layers_chosen": chosen}
    unsealed = (
        evaluation_record(name, models[name], found, origin, split=split, job=job)
        for name, found in measured.items()
    )
    return Analysis(measured, tuple(chained(unsealed)))


def _settled(
    models: Mapping[str, ModelAndCost], sides: SampleSets, num_classes: int | None
) -> list[nn.Module]:
    """The models in the form in which they are measured."""
    ready = prepared_models(models, sides, trains=False)
    check_outputs(ready, num_classes, compared=True)
    return [each.model for each in ready.values()]


def measure_features(
    panel: Panel, models: Sequence[nn.Module], roles: Sequence[Role], *, log: Log | None = None
) -> list[Measurement]:
    """Each model with the series "analysis" {layer: {...}} and the scores da and da_energy.

    At further layers the scores are "da@layer" and "da_energy@layer". What the panel measures
    otherwise is left to `evaluate`.

    Args:
        panel: The samples, the layers and k.
        models: The original first, then the retrained ones.
        roles: Their roles.
        log: Called after each model.

    Raises:
        EigenforgetError: A layer is unknown, features are not finite, or a model has no linear head
            and no layer was named.
    """
    found: list[Measurement] = []
    features: list[ModelFeatures] = []
    for model, role in zip(models, roles, strict=True):
        started = time.perf_counter()
        series, rows = _of_model(panel, model)
        features.append(rows)
        scores, seconds = _scores(series, panel.layers), time.perf_counter() - started
        found.append(Measurement(role, scores, {"analysis": series}, seconds))
        if log is not None:
            log({})
    for number, measured in enumerate(found):
        for layer, values in measured.series["analysis"].items():
            values["cka"] = _similarities(layer, number, features, roles)
    return found


def _models(original: Any, oracles: Any) -> dict[str, ModelAndCost]:
    named = oracles
    if isinstance(oracles, Sequence) and not isinstance(oracles, str):
        named = {f"oracle {i}": model for i, model in enumerate(oracles, start=1)}
    retrained = models_by_name(named, "oracles")
    if not retrained or "original" in retrained:
        raise EigenforgetError(
            f"oracles must be retrained models, none called 'original'; got {list(retrained)}"
        )
    return {**models_by_name({"original": original}, "original"), **retrained}


def _layers(
    given: Any, model: nn.Module, source: Source, *, engine: Engine, layer: str | None
) -> tuple[str, ...]:
    """The further layers that were given, or those that are found."""
    if isinstance(given, str) or not isinstance(given, Sequence | None):
        raise EigenforgetError(f"layers must be a list of names, got {given!r}")
    if layer is not None:
        find_layer(model, layer)
    if given is not None:
        return tuple(given)
    return earlier_layers(model, source, engine=engine, layer=layer)


def _of_model(panel: Panel, model: nn.Module) -> tuple[dict[str, Any], ModelFeatures]:
    seen: Observation = {p: rows for p, rows in panel.observe(model).items() if p != "test_trigger"}
    k = panel.k or len(classes_in(seen["retain"].labels))
    settings = AnalysisSettings(k, panel.seed, {p: rows.labels for p, rows in seen.items()})
    headline = panel.layer or f"input of {find_head(model)[0]}"
    drawn = {p: draw_samples(len(rows.labels), seed=panel.seed, part=p) for p, rows in seen.items()}
    series: dict[str, Any] = {}
    kept: ModelFeatures = {}
    for position, name in enumerate((*panel.layers, headline)):
        features = {
            p: rows.features if name == headline else rows.layers[name] for p, rows in seen.items()
        }
        _check_finite(name, features)
        place = {"position": position, "headline": name == headline}
        series[name] = {**place, **of_layer(features, settings)}
        kept[name] = {p: features[p][drawn[p]] for p in features}
    return series, kept


def _similarities(
    layer: str, number: int, features: Sequence[ModelFeatures], roles: Sequence[Role]
) -> dict[str, Any]:
    """Linear CKA with the original, and the mean over the other retrained models, by part.

    None where it is not defined.
    """
    found: dict[str, Any] = {}
    for role in ("original", "oracle"):
        others = [f[layer] for i, f in enumerate(features) if roles[i] == role and i != number]
        if not others:
            continue
        found[role] = {}
        for part, rows in features[number][layer].items():
            each = [cka(rows, other[part]) for other in others]
            known = [v for v in each if v is not None]
            found[role][part] = float(np.mean(known)) if len(known) == len(each) else None
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


def _check_finite(layer: str, features: FeatureRows) -> None:
    for part, rows in features.items():
        if not np.isfinite(rows).all():
            raise EigenforgetError(
                f"part {part}, layer {layer!r}: the model's features are not finite; an analysis"
                " needs numbers"
            )
