"""Measures models beside the original and the oracles: one forward pass per model and part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from eigenforget.alignment import default_k
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import path_of
from eigenforget.core.seeds import derive
from eigenforget.core.text import listed
from eigenforget.core.types import Part, Score
from eigenforget.data.sources import Source
from eigenforget.evaluation.evidence import Audit, Evidence, Observation
from eigenforget.evaluation.metrics import METRICS, AnyMetric, MetricContext, derived
from eigenforget.evaluation.metrics.derived import ScoreValues
from eigenforget.evaluation.observe import View, observe
from eigenforget.evaluation.scoring import (
    Scoring,
    check_skip,
    chosen_audits,
    chosen_metrics,
    values_of,
    without,
)
from eigenforget.evaluation.series import (
    check_maps,
    class_alignment_series,
    class_series,
    group_accuracy,
    map_series,
)
from eigenforget.models.checkpoint import model_digest
from eigenforget.models.different import check_different
from eigenforget.models.features import find_head
from eigenforget.models.precision import widened
from eigenforget.record.schema import Role
from eigenforget.requests.splitting import classes_in
from eigenforget.training.engine import Engine

MOST_PARTNERS = 16
"""Oracles that a model is compared with, one by one. The mean over them is known to a quarter of
the spread of single comparisons, and n oracles take 16 n comparisons in place of n²."""

MOST_IN_ENSEMBLES = 64
"""Oracles that an audit of ensembles sees beside one model: 32 on each side give means and
deviations to an eighth of the spread."""


class Measurement(NamedTuple):
    """What was measured on one model.

    Attributes:
        role: Original, oracle, unlearned or control.
        scores: Every score.
        series: The series behind figures, by name.
        seconds: Wall seconds that the measurement took.
    """

    role: Role
    scores: tuple[Score, ...]
    series: dict[str, Any]
    seconds: float

    def score(self, name: str) -> Score:
        """The named score.

        Raises:
            EigenforgetError: There is no such score.
        """
        for score in self.scores:
            if score.name == name:
                return score
        raise EigenforgetError(
            f"no score {name!r}; there are: {listed([s.name for s in self.scores], 100)}"
        )

    def value(self, name: str) -> float | None:
        """The value of the named score; None where it is not applicable."""
        return self.score(name).value


@dataclass(frozen=True)
class Panel:
    """What is measured, and on which parts.

    Args:
        parts: The samples of each part.
        num_classes: Labels are below this number.
        forgotten_classes: Classes that are gone as a whole.
        engine: Where to compute.
        seed: Every draw of metrics and audits follows from it.
        layer: The layer whose output is used as features; None: the input of the classifier head.
        layers: Further layers, on which all that reads features is measured again, as
            "score@layer".
        k: Directions of the headline alignment; None is the number of classes in the retain set.
        test_ids: Names of the held-out samples: test_forget, then test_retain.
        map_points: Held-out samples in each map of features.
        maps: Further maps, see series.FURTHER_MAPS.
        skip: Names of metrics and audits to leave out.
        forget_groups: Rows of the forget samples by name, whose accuracies become a series.
        metrics: Further metrics: classes, or spellings such as 'python(path="mine.py:Mine")'.
        audits: Further audits: instances, classes, functions or spellings; one takes the place of
            an audit of its name.

    Raises:
        EigenforgetError: A layer, map or name is unknown or given twice.
    """

    parts: Mapping[Part, Source]
    num_classes: int
    forgotten_classes: tuple[int, ...]
    engine: Engine
    seed: int = 0
    layer: str | None = None
    layers: tuple[str, ...] = ()
    k: int | None = None
    test_ids: Sequence[str] | None = None
    map_points: int = 800
    maps: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    forget_groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    metrics: Sequence[Any] = ()
    audits: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if len(set(self.layers)) < len(self.layers):
            raise EigenforgetError(f"further layers must differ, got {listed(self.layers)}")
        check_maps(self.maps)
        kinds, audits = self._measures
        check_skip(self.skip, [item.name for item in (*kinds, *audits)])
        files = self.own_files
        twins = [file for file in files if [other.name for other in files].count(file.name) > 1]
        if twins:
            raise EigenforgetError(
                f"{listed(twins)} have the same name, and records name a file by it; rename one"
            )

    @cached_property
    def _measures(self) -> tuple[tuple[type[AnyMetric], ...], tuple[Audit, ...]]:
        return chosen_metrics(self.metrics), chosen_audits(self.audits)

    @property
    def own_metrics(self) -> list[type[AnyMetric]]:
        """The metrics that are not of METRICS."""
        return [kind for kind in self._measures[0] if kind not in METRICS]

    @property
    def own_audits(self) -> list[Audit]:
        """The audits that are not of AUDITS with their defaults."""
        defaults = chosen_audits(())
        return [audit for audit in self._measures[1] if audit not in defaults]

    @property
    def own_paths(self) -> dict[str, str]:
        """Where each of these is, as "file.py:Name" or "module:Name", by its own name."""
        own = [*self.own_metrics, *(type(audit) for audit in self.own_audits)]
        return {
            kind.name: path_of(kind) or f"{kind.__module__}:{kind.__qualname__}" for kind in own
        }

    @property
    def own_files(self) -> list[Path]:
        """The Python files that they are in, in order."""
        files = {Path(path.rpartition(":")[0]) for path in self.own_paths.values()}
        return sorted(file for file in files if file.suffix == ".py")

    def observe(self, model: nn.Module) -> Observation:
        """The outputs of one forward pass over every part.

        Raises:
            EigenforgetError: A layer is unknown, or a label has no logit.
        """
        return observe(self.engine, widened(model), self.parts, View(self.layer, self.layers))

    def measure(self, model: nn.Module, role: Role = "unlearned") -> Measurement:
        """Scores and series of a model that stands alone.

        What compares models is not applicable then; see Board.
        """
        return Board(self, (), ()).measure(model, role)

    def scoring(self, model: nn.Module, seen: Observation) -> Scoring:
        """What to measure on this model."""
        head = find_head(model)[1].weight.detach().cpu() if self.layer is None else None
        width = next(iter(seen.values())).features.shape[1]
        if head is not None and (len(head) == 1 or head.shape[1] != width):
            head = None  # features of all steps of a sequence, or one output for two classes
        k = self.k or default_k(len(classes_in(seen["retain"].labels)), width=width)
        context = MetricContext(width, self.num_classes, self.forgotten_classes, k, self.seed, head)
        metrics, audits = self._measures
        return Scoring(context, without(metrics, self.skip), without(audits, self.skip))

    def evidence(self, model: nn.Module, seen: Observation) -> Evidence:
        """The model alone, as audits see it."""
        return Evidence(
            widened(model),
            seen,
            self.num_classes,
            self.forgotten_classes,
            sources=self.parts,
            engine=self.engine,
            layer=self.layer,
            kept=self._kept,
        )

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        return {}

    def series(self, seen: Observation) -> dict[str, Any]:
        """The series that need outputs only."""
        gone = self.forgotten_classes
        maps = map_series(
            seen,
            self.maps,
            forgotten_classes=gone,
            ids=self.test_ids,
            points=self.map_points,
            seed=self.seed,
        )
        classes = class_series(seen, self.num_classes, gone)
        found = {**maps, **classes, **class_alignment_series(seen)}
        if self.forget_groups:
            found["forget_groups"] = group_accuracy(seen["forget"], self.forget_groups)
        return found


class Board:
    """A panel with originals and oracles on it, so that every model is measured beside them.

    Each original and oracle is seen once. An oracle is measured beside the other oracles, so that
    its scores are what one more retrained model would have. Audits of ensembles depend on how many
    models each side has. An oracle takes `peers` of the other oracles as its peers and is compared
    with the others; every other model gets as many of each. Where these are too few for an audit, a
    model that is no oracle gets all oracles, and the score has no band. A model with fewer peers
    counts as having none.

    A model is compared with at most MOST_PARTNERS oracles, so that the work grows with their number
    and not with its square. An oracle is compared with those that follow it in a seeded order, so
    that each is the partner of equally many. Every other model is compared with the first ones of
    that order. In the same way, audits of ensembles see at most MOST_IN_ENSEMBLES oracles. Up to
    these numbers, all take part.

    Args:
        panel: What is measured.
        originals: Models before unlearning, one for each training seed.
        oracles: Models retrained without the forget set.
        pairs: For each oracle the number of the original that it is compared with; by default 0.
        peers: Models of the same kind beside the one that an audit of ensembles judges; by default
            half of the other oracles.
        known: `oracle_values` of an earlier board with the same oracles, which are then not
            measured again.
        observe: What gives the outputs of originals and oracles; by default the panel.

    Raises:
        EigenforgetError: `pairs` does not name an original for each oracle, or an oracle has the
            weights of another one or of an original.
    """

    def __init__(
        self,
        panel: Panel,
        originals: Sequence[nn.Module],
        oracles: Sequence[nn.Module],
        *,
        pairs: Sequence[int] | None = None,
        peers: int | None = None,
        known: Sequence[ScoreValues] | None = None,
        observe: Callable[[nn.Module], Observation] | None = None,
    ) -> None:
        self.panel, self.originals, self.oracles = panel, tuple(originals), tuple(oracles)
        self.pairs = tuple(pairs) if pairs is not None else (0,) * len(self.oracles)
        self._in_ensembles = min(max(0, len(self.oracles) - 1), MOST_IN_ENSEMBLES)
        self.peers = self._in_ensembles // 2 if peers is None else peers
        if len(self.pairs) != len(self.oracles):
            raise EigenforgetError(
                "pairs says for each oracle which original it goes with; got "
                f"{len(self.pairs)} for {len(self.oracles)}"
            )
        for number in self.pairs:
            self._check(number)
        check_different(
            {f"original {i + 1}": model_digest(m) for i, m in enumerate(self.originals)},
            [(f"oracle {i + 1}", model_digest(m)) for i, m in enumerate(self.oracles)],
        )
        self._known = known
        observe = observe or panel.observe
        self._originals = [observe(model) for model in self.originals]
        self._oracles = [observe(model) for model in self.oracles]

    def measure(
        self,
        model: nn.Module,
        role: Role,
        *,
        peers: Sequence[Observation] = (),
        number: int = 0,
        seen: Observation | None = None,
    ) -> Measurement:
        """Scores and series of a model that was made from an original.

        Args:
            model: The model; it stays as it is.
            role: What it is.
            peers: Outputs of models made in the same way from other training seeds.
            number: The number of its original.
            seen: Its own outputs, where they are known.

        Raises:
            EigenforgetError: There is no original of this number.
        """
        self._check(number)
        seen = self.panel.observe(model) if seen is None else seen
        return self._measure(model, seen, role, peers, number)

    def measure_original(self, number: int = 0) -> Measurement:
        """An original beside itself and the oracles; the other originals are its peers.

        Raises:
            EigenforgetError: There is no original of this number.
        """
        if not self.originals:
            raise EigenforgetError("this board has no original")
        self._check(number)
        peers = [seen for i, seen in enumerate(self._originals) if i != number]
        model, seen = self.originals[number], self._originals[number]
        return self._measure(model, seen, "original", peers, number)

    def measure_oracle(self, number: int) -> Measurement:
        """The oracle of this number, from 0, beside the others.

        Raises:
            EigenforgetError: There is no oracle of this number.
        """
        if not 0 <= number < len(self.oracles):
            raise EigenforgetError(
                f"this board has {len(self.oracles)} oracles, there is no number {number}"
            )
        others = [values for i, values in enumerate(self.oracle_values) if i != number]
        return _with_derived(self._base_of_oracles[number], "oracle", others, self.panel.parts)

    @cached_property
    def oracle_values(self) -> list[ScoreValues]:
        """Each oracle's scores beside the other oracles, without those derived from the others'."""
        if self._known is not None:
            return list(self._known)
        return [values_of(found.scores) for found in self._base_of_oracles]

    @cached_property
    def _base_of_oracles(self) -> list[Measurement]:
        return [self._base(*self._oracle_evidence(i)) for i in range(len(self.oracles))]

    def _measure(
        self,
        model: nn.Module,
        seen: Observation,
        role: Role,
        peers: Sequence[Observation],
        number: int,
    ) -> Measurement:
        original = self._originals[number] if self._originals else None
        alone = self.panel.evidence(model, seen)
        partners = self._seen(self._partners(None, MOST_PARTNERS))
        evidence = replace(alone, original=original, oracles=partners)
        enough = peers[: self.peers] if len(peers) >= self.peers else ()
        compared = max(0, self._in_ensembles - self.peers)
        together = self._seen(self._partners(None, MOST_IN_ENSEMBLES))
        ensemble = replace(evidence, peers=tuple(enough), oracles=together[:compared])
        whole = replace(ensemble, oracles=together)
        found = self._base(evidence, ensemble, whole)
        return _with_derived(found, role, self.oracle_values, self.panel.parts)

    def _check(self, number: int) -> None:
        """An error if there is no original of this number; without originals it is 0."""
        if not 0 <= number < max(1, len(self.originals)):
            raise EigenforgetError(
                f"this board has {len(self.originals)} originals, there is no number {number}"
            )

    def _oracle_evidence(self, number: int) -> tuple[Evidence, Evidence]:
        """An oracle beside the others, and the same with some of these as its peers."""
        original = self._originals[self.pairs[number]] if self._originals else None
        alone = self.panel.evidence(self.oracles[number], self._oracles[number])
        partners = self._seen(self._partners(number, MOST_PARTNERS))
        evidence = replace(alone, original=original, oracles=partners)
        together = self._seen(self._partners(number, MOST_IN_ENSEMBLES))
        return evidence, replace(
            evidence, peers=together[: self.peers], oracles=together[self.peers :]
        )

    def _partners(self, number: int | None, most: int) -> list[int]:
        """The oracles beside the one of this number, or beside a model that is none."""
        count = len(self.oracles)
        others = [i for i in range(count) if i != number]
        if number is not None:  # those after it first
            others = [*others[number:], *others[:number]]
        if len(others) <= most:
            return others
        start = 0 if number is None else self._order.index(number) + 1
        chosen = {self._order[(start + step) % count] for step in range(most)}
        return [i for i in others if i in chosen]

    @cached_property
    def _order(self) -> list[int]:
        """The oracles in a seeded order."""
        rng = np.random.default_rng(derive(self.panel.seed, "partners"))
        return [int(i) for i in rng.permutation(len(self.oracles))]

    def _seen(self, numbers: Sequence[int]) -> tuple[Observation, ...]:
        return tuple(self._oracles[i] for i in numbers)

    def _base(
        self, evidence: Evidence, ensemble: Evidence, whole: Evidence | None = None
    ) -> Measurement:
        started = time.perf_counter()
        scoring = self.panel.scoring(evidence.model, evidence.parts)
        found = scoring.findings(evidence, ensemble, whole)
        further = [
            score
            for layer in self.panel.layers
            for score in scoring.at_layer(evidence, layer).scores
        ]
        series = {**found.series, **self.panel.series(evidence.parts)}
        seconds = time.perf_counter() - started
        return Measurement("unlearned", (*found.scores, *further), series, seconds)


def _with_derived(
    base: Measurement,
    role: Role,
    oracles: Sequence[ScoreValues],
    parts: Mapping[Part, Source],
) -> Measurement:
    counts = {part: len(source) for part, source in parts.items()}
    scores = (*base.scores, *derived(values_of(base.scores), oracles, counts))
    return base._replace(role=role, scores=scores)
