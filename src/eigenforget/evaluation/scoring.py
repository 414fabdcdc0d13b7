"""Every metric, comparison and audit on the outputs of one model: scores by name, and the series
behind figures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from eigenforget.alignment import default_k
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.audits import AUDITS, ENSEMBLE_AUDITS
from eigenforget.evaluation.audits.evidence import Audit, Evidence, Findings, Observation
from eigenforget.evaluation.metrics import (
    COMPARISONS,
    METRICS,
    ComparisonKind,
    MetricContext,
    PairedMetric,
    PanelAlignment,
    PanelMetric,
    PopulationMIA,
)
from eigenforget.evaluation.observe import at_layer, batches, pairs
from eigenforget.evaluation.series import alignment_series, roc_series

SCORING_REVISION = 2
"""Raised whenever a score of the same models would no longer be the same: results of benches are
not used beyond it.
"""

Reads = Literal["logits", "features", "model"]
EVERYTHING: tuple[Reads, ...] = ("logits", "features", "model")
FEATURES: tuple[Reads, ...] = ("features",)


@dataclass(frozen=True)
class Scoring:
    """What is measured: everything but the names in `skip`, with the audits' draws from `seed`."""

    what: MetricContext
    skip: Collection[str] = ()

    def __post_init__(self) -> None:
        check_skip(self.skip)

    def findings(self, evidence: Evidence, ensemble: Evidence) -> Findings:
        """Everything at the headline features. ensemble: the evidence for audits of ensembles (see
        Board).
        """
        return _together(
            [
                self._metrics(evidence, EVERYTHING),
                self._comparisons(evidence, EVERYTHING),
                self._audits(AUDITS, evidence, EVERYTHING),
                self._audits(ENSEMBLE_AUDITS, ensemble, EVERYTHING),
            ]
        )

    def at_layer(self, evidence: Evidence, layer: str) -> Findings:
        """What reads features, on the features of a further layer; names end in "@layer"."""
        there = replace(
            evidence,
            parts=at_layer(evidence.parts, layer),
            oracles=tuple(at_layer(o, layer) for o in evidence.oracles),
            peers=(),
            original=None if evidence.original is None else at_layer(evidence.original, layer),
        )
        width = next(iter(there.parts.values())).features.shape[1]
        other = replace(
            self,
            what=self.what._replace(head=None, num_features=width, k=default_k(self.what.k, width)),
        )
        found = _together(
            [
                other._metrics(there, FEATURES),
                other._comparisons(there, FEATURES),
                other._audits(AUDITS, there, FEATURES),
            ]
        )
        return Findings(tuple(replace(s, name=f"{s.name}@{layer}") for s in found.scores), {})

    def _metrics(self, evidence: Evidence, reads: Collection[Reads]) -> Findings:
        scores: list[Score] = []
        series: dict[str, Any] = {}
        for kind in METRICS:
            if kind.name in self.skip or kind.reads not in reads:
                continue
            metric = _whole(kind.create(self.what))
            for part, rows in evidence.parts.items():
                for batch, outputs in batches(rows):
                    metric.update(part, batch, outputs)
            scores += _explained(kind, metric.scores())
            if isinstance(metric, PanelAlignment):
                series |= alignment_series(metric)
            if isinstance(metric, PopulationMIA):
                series |= roc_series(metric)
        return Findings(tuple(scores), series)

    def _comparisons(self, evidence: Evidence, reads: Collection[Reads]) -> Findings:
        scores: list[Score] = []
        for kind in COMPARISONS:
            if kind.name in self.skip or kind.reads not in reads:
                continue
            for against in kind.against:
                others = (
                    evidence.oracles
                    if against == "oracle"
                    else ()
                    if evidence.original is None
                    else (evidence.original,)
                )
                found = [
                    _values(_whole(kind.create(self.what)), evidence.parts, other)
                    for other in others
                ]
                means = [
                    _mean(f"{stem}_{against}", declared, [f[stem] for f in found])
                    for stem, declared in kind.kinds.items()
                ]
                scores += _explained(kind, means)
        return Findings(tuple(scores), {})

    def _audits(
        self, audits: Collection[type[Audit]], evidence: Evidence, reads: Collection[Reads]
    ) -> Findings:
        found: list[Findings] = []
        for kind in audits:
            if kind.name not in self.skip and kind.reads in reads:
                answer = kind()(evidence, self.what.seed)
                whole = answer if isinstance(answer, Findings) else Findings(answer, {})
                found.append(Findings(_explained(kind, whole.scores), whole.series))
        return _together(found)


def _explained(kind: type, scores: Iterable[Score]) -> tuple[Score, ...]:
    """The scores with the glossary lines that their class declares in `glossary`."""
    lines: Mapping[str, tuple[str, str, str]] = getattr(kind, "glossary", {})
    return tuple(replace(s, about=s.about or lines.get(s.name)) for s in scores)


def measurement_names() -> list[str]:
    """The names of all metrics, comparisons and audits, in the order in which they run."""
    metrics = [kind.name for kind in METRICS] + [kind.name for kind in COMPARISONS]
    return metrics + [audit.name for audit in (*AUDITS, *ENSEMBLE_AUDITS)]


def check_skip(names: Collection[str]) -> None:
    """Errors: a name that is not of a metric, comparison or audit, with the list of those."""
    unknown = sorted(set(names) - set(measurement_names()))
    if unknown:
        raise EigenforgetError(
            f"cannot skip {listed(unknown)}; there are: {listed(measurement_names(), 100)}"
        )


Fed = TypeVar("Fed", PanelMetric, PairedMetric)


def _whole(metric: Fed) -> Fed:
    """The metric, which merges nothing: where a job has several ranks, each feeds it all samples."""
    metric.distributed_available_fn = _nobody
    return metric


def _nobody() -> bool:
    return False


def _values(metric: PairedMetric, mine: Observation, other: Observation) -> dict[str, float | str]:
    for part, rows in mine.items():
        for labels, ours, theirs in pairs(rows, _same_part(other, part), metric.reads):
            metric.update(part, labels, ours, theirs)
    with metric.sync_context():
        return metric.values()


def _same_part(other: Observation, part: Part) -> Any:
    if part not in other:
        raise EigenforgetError(f"the model to compare with was not measured on part {part}")
    return other[part]


def _mean(name: str, kind: ComparisonKind, values: list[float | str]) -> Score:
    """The mean over the models compared with; not applicable where there is none, or any of them
    gave a reason.
    """
    reasons = [v for v in values if isinstance(v, str)]
    if not values:
        against = name.rpartition("_")[2]
        reasons = [
            f"there is no {'retrained' if against == 'oracle' else against} model to compare with"
        ]
    value = None if reasons else float(np.mean([v for v in values if not isinstance(v, str)]))
    trace = (
        kind.to_original
        if name.endswith("_original") and kind.to_original is not None
        else kind.trace
    )
    return Score(
        name,
        value,
        kind.unit,
        kind.better,
        kind.range,
        reason=reasons[0] if reasons else "",
        trace=trace,
    )


def _together(found: Collection[Findings]) -> Findings:
    series: dict[str, Any] = {}
    for one in found:
        series |= one.series
    return Findings(tuple(score for one in found for score in one.scores), series)


def values_of(scores: Collection[Score]) -> Mapping[str, float | None]:
    """Values by name."""
    return {score.name: score.value for score in scores}
