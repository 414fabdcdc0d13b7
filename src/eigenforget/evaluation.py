"""One forward pass per model and part feeds every metric and audit; scores stand beside the original's and the oracles'."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import nn

from eigenforget import seeds
from eigenforget.alignment import Moments, alignment_curve, eigenspace
from eigenforget.audits import AUDITS
from eigenforget.audits.evidence import Evidence, PartOutputs
from eigenforget.engine import Engine
from eigenforget.metrics import METRICS, Measurement, PanelAlignment, PanelMetric
from eigenforget.models.checkpoint import check_labels
from eigenforget.sources import Source, as_source
from eigenforget.types import Batch, EigenforgetError, Outputs, Part, Score, listed

Role = Literal["original", "oracle", "unlearned", "control"]


class Measured(NamedTuple):
    """The scores of one model, the series behind its figures, and the seconds the measurement took."""

    role: Role
    scores: tuple[Score, ...]
    series: dict[str, Any]
    seconds: float

    def value(self, name: str) -> float | None:
        """The value of the named score; None where it is not applicable. Errors: no such score."""
        for score in self.scores:
            if score.name == name:
                return score.value
        raise EigenforgetError(f"no score {name!r}; there are: {listed([s.name for s in self.scores], 50)}")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, by model name."""

    models: Mapping[str, Measured]

    def oracle_mean(self, score: str) -> float | None:
        """Mean of the oracles' values; None without an oracle or where the score is not applicable."""
        values = [m.value(score) for m in self.models.values() if m.role == "oracle"]
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known and len(known) == len(values) else None

    def gap(self, model: str, score: str) -> float | None:
        """Signed gap to the mean of the oracles: value − oracle mean."""
        value, mean = self.models[model].value(score), self.oracle_mean(score)
        return None if value is None or mean is None else value - mean


@dataclass(frozen=True)
class Panel:
    """What is measured, and on which parts. `k` None is the number of retained classes.

    test_ids name the held-out samples (test_forget, then test_retain); map_points of them go into the map of features.
    """

    parts: Mapping[Part, Source]
    num_classes: int
    forgotten_classes: tuple[int, ...]
    engine: Engine
    seed: int = 0
    layer: str | None = None
    k: int | None = None
    test_ids: Sequence[str] | None = None
    map_points: int = 800

    def measure(self, model: nn.Module, role: Role = "unlearned") -> Measured:
        """Scores and series of one model; the model is not changed. Errors: labels outside the head, no finite features."""
        started = time.perf_counter()
        metrics: list[PanelMetric] = []
        collected = {part: _Collector() for part in self.parts}
        for part, source in self.parts.items():
            for batch, outputs in self.engine.forward(model, source, layer=self.layer):
                if not metrics:
                    for checked in self.parts.values():
                        check_labels(checked.labels(), outputs.logits.shape[1])
                    metrics = [m.to(outputs.logits.device) for m in self._metrics(outputs.features.shape[1])]
                for metric in metrics:
                    metric.update(part, batch, outputs)
                collected[part].add(batch, outputs)
        evidence = Evidence(model, {p: c.outputs() for p, c in collected.items()}, self.num_classes, self.forgotten_classes)
        scores = [score for metric in metrics for score in metric.scores()]
        for audit in AUDITS:
            scores += audit()(evidence, self.seed)
        alignment = next(m for m in metrics if isinstance(m, PanelAlignment))
        series = {**_alignment_series(alignment), "pca": self._map(evidence)}
        return Measured(role, tuple(scores), series, time.perf_counter() - started)

    def _metrics(self, width: int) -> list[PanelMetric]:
        k = self.k or self.num_classes - len(self.forgotten_classes)
        what = Measurement(width, self.num_classes, self.forgotten_classes, k, self.seed)
        return [kind.made_for(what) for kind in METRICS]

    def _map(self, evidence: Evidence) -> dict[str, Any]:
        """Two leading principal components of the held-out features, for a fixed sample of them."""
        held = [evidence.parts[p] for p in ("test_forget", "test_retain") if p in evidence.parts]
        features = np.concatenate([h.features for h in held]).astype(np.float64)
        labels = np.concatenate([h.labels for h in held])
        centred = features - features.mean(0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :2]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        rng = np.random.default_rng(seeds.derive(self.seed, "map"))
        rows = np.sort(rng.permutation(len(features))[: self.map_points])
        points = centred[rows] @ axes
        forgotten = np.isin(labels[rows], self.forgotten_classes)
        total = max(values.sum(), np.finfo(np.float64).tiny)
        names = self.test_ids if self.test_ids is not None else [str(i) for i in range(len(features))]
        return {
            "x": _short(points[:, 0]), "y": _short(points[:, 1]), "label": labels[rows].tolist(),
            "id": [str(names[r]) for r in rows], "forget": forgotten.tolist(), "explained": _short(values[::-1][:2] / total),
        }  # fmt: skip


def evaluate(
    models: Mapping[str, nn.Module],
    *,
    forget: Any,
    retain: Any,
    test: Any,
    oracles: Mapping[str, nn.Module] | None = None,
    panel: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measure models beside retrained oracles: accuracies, membership, dimensional alignment, linear probe, clustering.

    models by name; the name "original" marks the model before unlearning. oracles were trained without the forget data.
    forget, retain, test: (inputs, labels) pairs, Datasets or DataLoaders. `panel` overrides fields of Panel, such as
    {"engine": Engine(device="cuda"), "layer": "layer4", "k": 9}. Errors: EigenforgetError in one line.
    """
    sides = as_source(forget, "forget"), as_source(retain, "retain"), as_source(test, "test")
    gone = gone_classes(sides[0], sides[1])
    oracles = oracles or {}
    clash = set(models) & set(oracles)
    if clash or not models:
        raise EigenforgetError(f"model names must be given and unique; twice: {listed(sorted(clash)) or 'none given'}")
    parts = parts_of(*sides, forgotten_classes=gone)
    classes = 1 + max(int(s.labels().max()) for s in sides)
    settings: dict[str, Any] = {"num_classes": classes, "forgotten_classes": gone, "engine": None, **(panel or {})}
    settings["engine"] = settings["engine"] or Engine()
    board = Panel(parts=parts, **settings)
    found = {name: board.measure(m, "original" if name == "original" else "unlearned") for name, m in models.items()}
    return Evaluation(found | {name: board.measure(m, "oracle") for name, m in oracles.items()})


def parts_of(forget: Source, retain: Source, test: Source, *, forgotten_classes: Sequence[int]) -> dict[Part, Source]:
    """The parts that exist: held-out samples are divided into forgotten and other classes where classes are gone as a whole."""
    parts: dict[Part, Source] = {"forget": forget, "retain": retain}
    gone, rest = sides_of(test.labels(), forgotten_classes)
    if not len(rest):
        raise EigenforgetError("the test data has no sample of a retained class")
    if len(gone):
        parts["test_forget"] = test.subset(gone)
    parts["test_retain"] = test.subset(rest) if len(gone) else test
    return parts


def sides_of(labels: np.ndarray, forgotten_classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples of forgotten and of other classes, each in order."""
    of_forgotten = np.isin(labels, list(forgotten_classes))
    return np.flatnonzero(of_forgotten), np.flatnonzero(~of_forgotten)


def gone_classes(forget: Source, retain: Source) -> tuple[int, ...]:
    """Classes that occur in the forget data and not in the retained data."""
    return tuple(int(c) for c in np.setdiff1d(forget.labels(), retain.labels()))


class _Collector:
    """Outputs of one part on the CPU, for audits that need all of them at once."""

    def __init__(self) -> None:
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._layers: dict[str, list[np.ndarray]] = {}

    def add(self, batch: Batch, outputs: Outputs) -> None:
        tensors = (outputs.logits, outputs.features, batch.labels, batch.positions)
        self._rows.append(tuple(t.cpu().numpy() for t in tensors))
        for name, features in outputs.layers.items():
            self._layers.setdefault(name, []).append(features.cpu().numpy())

    def outputs(self) -> PartOutputs:
        logits, features, labels, positions = (np.concatenate(column) for column in zip(*self._rows, strict=True))
        return PartOutputs(logits, features, labels, positions, {n: np.concatenate(rows) for n, rows in self._layers.items()})


def _alignment_series(metric: PanelAlignment) -> dict[str, Any]:
    forget, retain = metric.sides()
    curves: dict[str, Any] = {}
    for centering in ("none", "each"):
        for form in ("frobenius", "energy"):
            try:
                curve = alignment_curve(forget, retain, form=form, centering=centering)  # type: ignore[arg-type]
            except EigenforgetError:
                continue  # constant features have no centred eigenspace; the score says so, the figure leaves it out
            curves[f"{form}_{centering}"] = _short(curve.cpu().numpy())
    # Centring can lower the rank, and with it the last k; one axis of k serves all curves of a model.
    last = min((len(c) for c in curves.values()), default=0)
    cut = {name: curve[:last] for name, curve in curves.items()}
    return {
        "da_curve": {"k": list(range(1, last + 1)), "headline_k": metric.k, **cut} if last else {},
        "spectrum": {"forget": _spectrum(forget), "retain": _spectrum(retain)},
    }


def _spectrum(side: Moments) -> list[float]:
    """Uncentred eigenvalues in descending order as shares of their sum."""
    try:
        values = eigenspace(side.gram("none")).values
    except EigenforgetError:
        return []
    return _short((values / values.sum()).cpu().numpy())


def _short(values: np.ndarray) -> list[float]:
    """Six significant digits: enough for a figure, and half the size on disk."""
    return [float(f"{v:.6g}") for v in values]
