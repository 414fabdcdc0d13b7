"""Every metric and audit on the outputs of one model: its scores, and the series behind figures."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eigenforget.alignment import default_k
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.audits import AUDITS, audit_of
from eigenforget.evaluation.evidence import (
    Audit,
    Evidence,
    Findings,
    Observation,
    PartOutputs,
    Reads,
)
from eigenforget.evaluation.metrics import (
    METRICS,
    AnyMetric,
    ComparisonKind,
    MetricContext,
    PairedMetric,
    PanelMetric,
)
from eigenforget.evaluation.observe import at_layer, batches, pairs

SCORING_REVISION = 4
"""Raised whenever a score of the same models would no longer be the same.

Stored results of benchmarks are not used beyond it.
"""

_EVERYTHING: tuple[Reads, ...] = ("logits", "features", "model")
_FEATURES: tuple[Reads, ...] = ("features",)


@dataclass(frozen=True)
class Scoring:
    """What is measured on one model.

    Args:
        context: What metrics may know of the models and the request; audits take its seed.
        metrics: The metrics to compute.
        audits: The audits to run.
    """

    context: MetricContext
    metrics: tuple[type[AnyMetric], ...]
    audits: tuple[Audit, ...]

    def findings(
        self, evidence: Evidence, ensemble: Evidence, whole: Evidence | None = None
    ) -> Findings:
        """Everything at the headline features.

        Args:
            evidence: What metrics and audits of one model see.
            ensemble: What audits of ensembles see, as many models a side as beside an oracle.
            whole: What they see where these oracles are too few for them (`least_oracles`): all
                oracles. An oracle has no such score then, and the score no band.
        """
        alone, together = self._audits_by_ensemble()
        seed = self.context.seed
        found = [
            *self._metrics(evidence, _EVERYTHING),
            *_audited(alone, evidence, seed, _EVERYTHING),
        ]
        for audit in together:
            few = len(ensemble.oracles) < getattr(audit, "least_oracles", 0)
            beside = whole if whole is not None and few else ensemble
            found += _audited([audit], beside, seed, _EVERYTHING)
        return _joined(found)

    def at_layer(self, evidence: Evidence, layer: str) -> Findings:
        """What reads features, on the features of a further layer; names end in "@layer"."""
        original = evidence.original
        there = replace(
            evidence,
            parts=at_layer(evidence.parts, layer),
            oracles=tuple(at_layer(oracle, layer) for oracle in evidence.oracles),
            peers=(),
            original=None if original is None else at_layer(original, layer),
        )
        width = next(iter(there.parts.values())).features.shape[1]
        context = self.context._replace(
            head=None, num_features=width, k=default_k(self.context.k, width=width)
        )
        other = replace(self, context=context)
        found = other.readings(there)
        return Findings(tuple(replace(s, name=f"{s.name}@{layer}") for s in found.scores), {})

    def readings(self, evidence: Evidence) -> Findings:
        """What reads features, on the features of the evidence."""
        alone, _ = self._audits_by_ensemble()
        return _joined(
            [
                *self._metrics(evidence, _FEATURES),
                *_audited(alone, evidence, self.context.seed, _FEATURES),
            ]
        )

    def _audits_by_ensemble(self) -> tuple[list[Audit], list[Audit]]:
        """The audits of one model, and those that need several models made alike."""
        together = [audit for audit in self.audits if getattr(audit, "ensemble", False)]
        return [audit for audit in self.audits if audit not in together], together

    def _metrics(self, evidence: Evidence, reads: Collection[Reads]) -> list[Findings]:
        """Metrics of one model first, then those that compare two."""
        kinds = [kind for kind in self.metrics if kind.reads in reads]
        single = [
            _measured(kind.create(self.context), evidence)
            for kind in kinds
            if issubclass(kind, PanelMetric)
        ]
        gathered: dict[tuple[str, int], PairedMetric] = {}
        return single + [
            self._compared(kind, evidence, gathered)
            for kind in kinds
            if issubclass(kind, PairedMetric)
        ]

    def _compared(
        self,
        kind: type[PairedMetric],
        evidence: Evidence,
        gathered: dict[tuple[str, int], PairedMetric],
    ) -> Findings:
        scores: list[Score] = []
        original = () if evidence.original is None else (evidence.original,)
        for against in kind.against:
            others = evidence.oracles if against == "oracle" else original
            found = [
                _values(kind.create(self.context), evidence.parts, other, gathered)
                for other in others
            ]
            scores += [
                _mean(f"{stem}_{against}", declared, [values[stem] for values in found])
                for stem, declared in kind.kinds.items()
            ]
        return Findings(_explained(kind, scores), {})


def chosen_metrics(further: Iterable[Any]) -> tuple[type[AnyMetric], ...]:
    """METRICS and further ones, each given as a class or as the spelling of one.

    Raises:
        EigenforgetError: One is no metric, or takes the name of another.
    """
    found = dict(_by_name(METRICS))
    for given in further:
        kind = METRICS.kind(given) if isinstance(given, str) else given
        if not (isinstance(kind, type) and issubclass(kind, (PanelMetric, PairedMetric))):
            raise EigenforgetError(
                f"a metric is a subclass of PanelMetric or PairedMetric, got {given!r}"
            )
        _check_metric(kind)
        if found.setdefault(kind.name, kind) is not kind:
            raise EigenforgetError(f"two metrics are named {kind.name!r}")
    return tuple(found.values())


def _check_metric(kind: type[AnyMetric]) -> None:
    """Checks that a metric of the user's own can be made and fed.

    Raises:
        EigenforgetError: It cannot.
    """
    name, known = getattr(kind, "name", kind.__name__), MetricContext._fields
    lacking = [n for n in ("name", "reads") if not hasattr(kind, n)]
    lacking += sorted(getattr(kind, "__abstractmethods__", ()))
    if lacking:
        raise EigenforgetError(f"metric {name} lacks {listed(lacking)}")
    _check_reads(f"metric {name}", kind.reads, ("logits", "features"))
    parameters = inspect.signature(kind).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    unknown = [n for n in needed if n not in known and n != "args"]
    if unknown:
        raise EigenforgetError(
            f"metric {name} is made with {listed(unknown)}, which is not known then; its "
            f"constructor may name {listed(known, 100)}"
        )


def _check_reads(what: str, reads: Any, valid: Sequence[Reads]) -> None:
    if reads not in valid:
        raise EigenforgetError(f"{what} reads {reads!r}; it can read {listed(valid)}")


def chosen_audits(further: Iterable[Any]) -> tuple[Audit, ...]:
    """AUDITS with their defaults and further ones; one of the same name takes the place of another.

    Those of AUDITS that are `opt_in` take part only where they are given. Each is an instance, a
    class, a function (evidence, seed) → score, or the spelling of one.

    Raises:
        EigenforgetError: One is no audit.
    """
    found: dict[str, Audit] = {
        kind.name: kind() for kind in AUDITS if not getattr(kind, "opt_in", False)
    }
    for given in further:
        audit = AUDITS.parse(given) if isinstance(given, str) else given
        if not hasattr(audit, "reads") and callable(audit):
            audit = audit_of(audit)
        audit = audit() if isinstance(audit, type) else audit
        if not (callable(audit) and hasattr(audit, "name") and hasattr(audit, "reads")):
            raise EigenforgetError(
                f"an audit has a name, says what it reads and can be called, got {given!r}"
            )
        _check_reads(f"audit {audit.name}", audit.reads, _EVERYTHING)
        found[audit.name] = audit
    return tuple(found.values())


def measurement_names() -> list[str]:
    """The names of METRICS and AUDITS, in the order in which they run."""
    return [*_by_name(METRICS), *_by_name(AUDITS)]


def without(items: Sequence[Any], skip: Collection[str]) -> tuple[Any, ...]:
    """The metrics or audits but those whose names are to be skipped."""
    return tuple(item for item in items if item.name not in skip)


def check_skip(names: Collection[str], own: Sequence[str] = ()) -> None:
    """Checks that each name is that of a metric or audit, or one of the user's `own`.

    Raises:
        EigenforgetError: One is not; the message lists those that are.
    """
    known = list(dict.fromkeys([*measurement_names(), *own]))
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise EigenforgetError(f"cannot skip {listed(unknown)}; there are: {listed(known, 100)}")


def _by_name(kinds: Iterable[Any]) -> dict[str, Any]:
    return {kind.name: kind for kind in kinds}


def _measured(metric: PanelMetric, evidence: Evidence) -> Findings:
    # Nothing is merged across ranks: where a job has several, each feeds the metric all samples.
    for part in filter(metric.uses, evidence.parts):
        for batch, outputs in batches(evidence.parts[part]):
            metric.update(part, batch, outputs)
    found: Any = metric.measure()
    if not _are_scores(found):
        raise EigenforgetError(f"metric {metric.name} must measure Scores, got {found!r}")
    return Findings(_explained(metric, found), metric.series())


def _values(
    metric: PairedMetric,
    mine: Observation,
    other: Observation,
    gathered: dict[tuple[str, int], PairedMetric],
) -> dict[str, float | str]:
    """The values against one model.

    Args:
        metric: The metric, which has seen nothing yet.
        mine: Outputs of the model.
        other: Outputs of the other model, which is there as long as `gathered`.
        gathered: Metrics by what their state is and by the other model; this one is added.
    """
    key = metric.gathers, id(other)
    twin = gathered.get(key)
    if twin is not None:
        for name, state in twin.metric_state.items():
            setattr(metric, name, state)
        return metric.values()
    for part in filter(metric.uses, mine):
        for labels, ours, theirs in pairs(mine[part], _same_part(other, part), metric.reads):
            metric.update(part, labels, ours, theirs)
    if metric.gathers:
        gathered[key] = metric
    return metric.values()


def _same_part(other: Observation, part: Part) -> PartOutputs:
    if part not in other:
        raise EigenforgetError(f"the model to compare with was not measured on part {part}")
    return other[part]


def _audited(
    audits: Iterable[Audit], evidence: Evidence, seed: int, reads: Collection[Reads]
) -> list[Findings]:
    found = []
    for audit in audits:
        if audit.reads in reads:
            scores, series = _findings(audit.name, audit(evidence, seed))
            found.append(Findings(_explained(audit, scores), series))
    return found


def _explained(owner: Any, scores: Iterable[Score]) -> tuple[Score, ...]:
    """The scores with the glossary lines that their class declares in `glossary`."""
    lines: Mapping[str, tuple[str, str, str]] = getattr(owner, "glossary", {})
    return tuple(replace(s, about=lines[s.name]) if s.name in lines else s for s in scores)


def _findings(name: str, answer: Any) -> Findings:
    """An audit's answer: Findings, Scores, one Score, or a bare number.

    Raises:
        EigenforgetError: It is none of these.
    """
    if isinstance(answer, Findings):
        return answer
    if getattr(answer, "shape", None) == () and hasattr(answer, "item"):  # of numpy or torch
        answer = answer.item()
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = Score(name, float(answer), "1", "reference", (-np.inf, np.inf), trace="both")
    scores = (answer,) if isinstance(answer, Score) else answer
    if not _are_scores(scores):
        raise EigenforgetError(
            f"audit {name} must return a number, Scores or Findings, got {answer!r}"
        )
    return Findings(tuple(scores), {})


def _are_scores(found: Any) -> bool:
    return isinstance(found, (tuple, list)) and all(isinstance(s, Score) for s in found)


def _mean(name: str, kind: ComparisonKind, values: Sequence[float | str]) -> Score:
    """The mean over the models compared with.

    Not applicable where there is none, or where any of them gave a reason.
    """
    against = name.rpartition("_")[2]
    reasons = [value for value in values if isinstance(value, str)]
    if not values:
        what = "retrained" if against == "oracle" else against
        reasons = [f"there is no {what} model to compare with"]
    value = None if reasons else float(np.mean([v for v in values if not isinstance(v, str)]))
    to_original = against == "original" and kind.to_original is not None
    return Score(
        name,
        value,
        kind.unit,
        kind.better,
        kind.range,
        reason=reasons[0] if reasons else "",
        trace=(kind.to_original or "") if to_original else kind.trace,
    )


def _joined(found: Iterable[Findings]) -> Findings:
    """All scores and series.

    Raises:
        EigenforgetError: Two scores have one name.
    """
    scores: dict[str, Score] = {}
    series: dict[str, Any] = {}
    for one in found:
        for score in one.scores:
            if scores.setdefault(score.name, score) is not score:
                raise EigenforgetError(f"two metrics or audits give a score named {score.name!r}")
        series |= one.series
    return Findings(tuple(scores.values()), series)


def values_of(scores: Iterable[Score]) -> Mapping[str, float | None]:
    """Values by name."""
    return {score.name: score.value for score in scores}
