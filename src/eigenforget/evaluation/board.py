"""One forward pass per model and part feeds every metric and audit; scores stand beside the
original's and the oracles'.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from eigenforget.alignment import default_k
from eigenforget.core import bands
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Part, Score
from eigenforget.data.sources import Source, as_source
from eigenforget.evaluation.audits.evidence import Evidence, Observation
from eigenforget.evaluation.metrics import MetricContext, derived
from eigenforget.evaluation.observe import View, observe
from eigenforget.evaluation.observe import parts_of as parts_of
from eigenforget.evaluation.scoring import Scoring, values_of
from eigenforget.evaluation.series import check_maps, class_series, group_accuracy, map_series
from eigenforget.models.features import find_head
from eigenforget.models.heads import settle
from eigenforget.models.module import ready
from eigenforget.models.precision import widened
from eigenforget.record.schema import Role
from eigenforget.requests.splitting import gone_classes as gone_classes
from eigenforget.requests.splitting import sides_of as sides_of
from eigenforget.training.engine import Engine

Values = Mapping[str, float | None]


class Measurement(NamedTuple):
    """The scores of one model, the series behind its figures, and the seconds the measurement took."""

    role: Role
    scores: tuple[Score, ...]
    series: dict[str, Any]
    seconds: float

    def score(self, name: str) -> Score:
        """The named score. Errors: no such score."""
        for score in self.scores:
            if score.name == name:
                return score
        raise EigenforgetError(
            f"no score {name!r}; there are: {listed([s.name for s in self.scores], 100)}"
        )

    def value(self, name: str) -> float | None:
        """The value of the named score; None where it is not applicable."""
        return self.score(name).value


class Standing(NamedTuple):
    """How a score stands to the oracles: their band, the signed gap in units of half its width, and
    what that says.
    """

    value: float
    band: bands.Band
    units: float
    verdict: bands.BandVerdict


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, by model name."""

    models: Mapping[str, Measurement]

    def oracle_values(self, score: str) -> list[float]:
        """The oracles' values; empty where any of them has none."""
        values = [m.value(score) for m in self.models.values() if m.role == "oracle"]
        known = [v for v in values if v is not None]
        return known if len(known) == len(values) else []

    def oracle_mean(self, score: str) -> float | None:
        """Mean of the oracles' values; None without an oracle or where the score is not applicable."""
        known = self.oracle_values(score)
        # Within their range: the mean of equal numbers may round away from them, and a gap of 0
        # must be 0.
        return min(max(float(np.mean(known)), min(known)), max(known)) if known else None

    def gap(self, model: str, score: str) -> float | None:
        """Signed gap to the mean of the oracles: value − oracle mean. Errors: no such model or
        score.
        """
        value, mean = self._model(model).value(score), self.oracle_mean(score)
        return None if value is None or mean is None else value - mean

    def _model(self, name: str) -> Measurement:
        if name not in self.models:
            raise EigenforgetError(f"no model {name!r}; there are: {listed(self.models)}")
        return self.models[name]

    def standing(self, model: str, score: str) -> Standing | None:
        """Where the model stands in the oracles' band; None where the score has no value or there
        are fewer than 2 oracles.
        """
        found = self._model(model).score(score)
        width = bands.band(
            self.oracle_values(score), span=found.range, pairs=bands.shares_pairs(score)
        )
        if found.value is None or width is None:
            return None
        verdict = bands.verdict(found.value, width, better=found.better, trace=found.trace)
        return Standing(found.value, width, bands.units(found.value, width), verdict)


@dataclass(frozen=True)
class Panel:
    """What is measured, and on which parts. `k` None is the number of retained classes, see
    alignment.default_k.

    layers: further layers, each once, on which all that reads features is measured again, as
    "score@layer". test_ids name the held-out samples (test_forget, then test_retain); map_points of
    them go into the map of features, and into the further maps that `maps` names
    (figure_data.FURTHER_MAPS). skip: names of metrics and audits to leave out. forget_groups: rows of the
    forget samples by a name, whose accuracies go into the series.
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

    def __post_init__(self) -> None:
        if len(set(self.layers)) < len(self.layers):
            raise EigenforgetError(f"further layers must differ, got {listed(self.layers)}")
        check_maps(self.maps)

    def observe(self, model: nn.Module) -> Observation:
        """One forward pass over every part. Errors: unknown layers, labels outside the head."""
        return observe(self.engine, widened(model), self.parts, View(self.layer, self.layers))

    def measure(self, model: nn.Module, role: Role = "unlearned") -> Measurement:
        """Scores and series of one model that stands alone; what compares models is not applicable
        then. See Board.
        """
        return Board(self, (), ()).measure(model, role)

    def scoring(self, model: nn.Module, seen: Observation) -> Scoring:
        """What to measure of this model."""
        head = find_head(model)[1].weight.detach().cpu() if self.layer is None else None
        width = next(iter(seen.values())).features.shape[1]
        k = self.k or default_k(self.num_classes - len(self.forgotten_classes), width)
        return Scoring(
            MetricContext(width, self.num_classes, self.forgotten_classes, k, self.seed, head),
            self.skip,
        )

    def evidence(self, model: nn.Module, seen: Observation) -> Evidence:
        """The model alone, as audits see it."""
        wide, gone = widened(model), self.forgotten_classes
        return Evidence(
            wide,
            seen,
            self.num_classes,
            gone,
            sources=self.parts,
            engine=self.engine,
            layer=self.layer,
        )

    def series(self, seen: Observation) -> dict[str, Any]:
        """The series that need outputs only."""
        gone = self.forgotten_classes
        drawn = map_series(
            seen,
            self.maps,
            forgotten_classes=gone,
            ids=self.test_ids,
            points=self.map_points,
            seed=self.seed,
        )
        groups = (
            {"forget_groups": group_accuracy(seen["forget"], self.forget_groups)}
            if self.forget_groups
            else {}
        )
        return {**drawn, **class_series(seen, self.num_classes, gone), **groups}


class Board:
    """A panel with originals and oracles on it, each seen once, so that every model is measured
    beside them.

    An oracle is measured beside the other oracles, so that its scores are what one more retrained
    model would have. There is one original for each training seed; an oracle is compared with the
    one whose number `pairs` gives (by default the first). peers: how many models of the same kind
    an audit of ensembles gets beside the one it judges; an oracle takes as many of the others as
    its peers. The rest of the others, and as many oracles for every other model, are what it is
    compared with: such audits depend on the sizes of ensembles, so a model with fewer peers than an
    oracle has counts as having none. known: `oracle_values` of an earlier board with the same
    oracles, which are then not measured again.
    """

    def __init__(
        self,
        panel: Panel,
        originals: Sequence[nn.Module],
        oracles: Sequence[nn.Module],
        *,
        pairs: Sequence[int] | None = None,
        peers: int | None = None,
        known: Sequence[Values] | None = None,
    ) -> None:
        self.panel, self.originals, self.oracles = panel, tuple(originals), tuple(oracles)
        self.pairs = tuple(pairs) if pairs is not None else (0,) * len(self.oracles)
        self.peers = max(0, len(self.oracles) - 1) // 2 if peers is None else peers
        if len(self.pairs) != len(self.oracles):
            raise EigenforgetError(
                f"pairs says for each oracle which original it goes with; got {len(self.pairs)} for {len(self.oracles)}"
            )
        for number in self.pairs:
            self._check(number)
        self._known = known
        self._originals = [panel.observe(model) for model in self.originals]
        self._oracles = [panel.observe(model) for model in self.oracles]

    def measure(
        self,
        model: nn.Module,
        role: Role,
        *,
        peers: Sequence[Observation] = (),
        number: int = 0,
        seen: Observation | None = None,
    ) -> Measurement:
        """Scores and series of a model that was made from the original of this number.

        peers: outputs of models made in the same way from other training seeds. seen: the model's
        own outputs, where they are known.
        """
        self._check(number)
        return self._measure(
            model, self.panel.observe(model) if seen is None else seen, role, peers, number
        )

    def measure_original(self, number: int = 0) -> Measurement:
        """An original beside itself and the oracles; the other originals are its peers."""
        if not self.originals:
            raise EigenforgetError("this board has no original")
        self._check(number)
        peers = [seen for i, seen in enumerate(self._originals) if i != number]
        return self._measure(
            self.originals[number], self._originals[number], "original", peers, number
        )

    def measure_oracle(self, number: int) -> Measurement:
        """The oracle of this number, from 0, beside the others."""
        if not 0 <= number < len(self.oracles):
            raise EigenforgetError(
                f"this board has {len(self.oracles)} oracles, there is no number {number}"
            )
        others = [v for i, v in enumerate(self.oracle_values) if i != number]
        return _with_derived(self._base_of_oracles[number], "oracle", others)

    @cached_property
    def _base_of_oracles(self) -> list[Measurement]:
        return [self._base(*self._oracle_evidence(i)) for i in range(len(self.oracles))]

    @cached_property
    def oracle_values(self) -> list[Values]:
        """Each oracle's scores, by name, as it has them beside the others; without those that are
        derived from the others'.
        """
        return (
            [values_of(found.scores) for found in self._base_of_oracles]
            if self._known is None
            else list(self._known)
        )

    def _measure(
        self,
        model: nn.Module,
        seen: Observation,
        role: Role,
        peers: Sequence[Observation],
        number: int,
    ) -> Measurement:
        original = self._originals[number] if self._originals else None
        evidence = replace(
            self.panel.evidence(model, seen), original=original, oracles=tuple(self._oracles)
        )
        enough = peers[: self.peers] if len(peers) >= self.peers else ()
        ensemble = replace(
            evidence, peers=tuple(enough), oracles=tuple(self._oracles[: self._left])
        )
        return _with_derived(self._base(evidence, ensemble), role, self.oracle_values)

    def _check(self, number: int) -> None:
        """Errors: no original of this number; without originals it is 0."""
        if not 0 <= number < max(1, len(self.originals)):
            raise EigenforgetError(
                f"this board has {len(self.originals)} originals, there is no number {number}"
            )

    @property
    def _left(self) -> int:
        """How many oracles an audit of ensembles compares with."""
        return max(0, len(self.oracles) - 1 - self.peers)

    def _oracle_evidence(self, number: int) -> tuple[Evidence, Evidence]:
        """An oracle beside the other oracles, and the same with some of these as its peers (others
        for each oracle).
        """
        original = self._originals[self.pairs[number]] if self._originals else None
        others = tuple(self._oracles[number + 1 :] + self._oracles[:number])
        alone = self.panel.evidence(self.oracles[number], self._oracles[number])
        evidence = replace(alone, original=original, oracles=others)
        return evidence, replace(evidence, peers=others[: self.peers], oracles=others[self.peers :])

    def _base(self, evidence: Evidence, ensemble: Evidence) -> Measurement:
        started = time.perf_counter()
        scoring = self.panel.scoring(evidence.model, evidence.parts)
        found = scoring.findings(evidence, ensemble)
        scores = [
            *found.scores,
            *(s for layer in self.panel.layers for s in scoring.at_layer(evidence, layer).scores),
        ]
        series = {**found.series, **self.panel.series(evidence.parts)}
        return Measurement("unlearned", tuple(scores), series, time.perf_counter() - started)


def _with_derived(base: Measurement, role: Role, oracles: Sequence[Values]) -> Measurement:
    return base._replace(
        role=role, scores=(*base.scores, *derived(values_of(base.scores), oracles))
    )


def evaluate(
    models: Mapping[str, nn.Module],
    *,
    forget: Any,
    retain: Any,
    test: Any,
    oracles: Mapping[str, nn.Module] | None = None,
    panel: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measure models beside retrained oracles, with every metric and audit of the package.

    models by name; the name "original" marks the model before unlearning. oracles were trained
    without the forget data: with two or more there is a band (see Evaluation.standing), with one a
    gap without a band, with none neither. forget, retain, test: (inputs, labels) pairs, Datasets or
    DataLoaders. `panel` overrides fields of Panel, such as {"engine": Engine(device="cuda"),
    "layer": "layer4", "skip": ("relearning",)}. A model without a linear head needs the layer;
    where the last nn.Linear is not the head, a pass of two samples finds it. The models stay as
    they are. Errors: EigenforgetError in one line.
    """
    sides = as_source(forget, "forget"), as_source(retain, "retain"), as_source(test, "test")
    gone = gone_classes(sides[0], sides[1])
    oracles = oracles or {}
    clash = set(models) & set(oracles)
    if clash or not models:
        raise EigenforgetError(
            f"model names must be given and unique; twice: {listed(sorted(clash)) or 'none given'}"
        )
    parts = parts_of(*sides, forgotten_classes=gone)
    classes = 1 + max(int(s.labels().max()) for s in sides)
    settings: dict[str, Any] = {
        "num_classes": classes,
        "forgotten_classes": gone,
        "engine": None,
        **(panel or {}),
    }
    settings["engine"] = settings["engine"] or Engine()
    plain, retrained = (
        {name: settle(ready(m), sides[0]).model for name, m in given.items()}
        for given in (models, oracles)
    )
    originals = [plain["original"]] if "original" in plain else []
    board = Board(Panel(parts=parts, **settings), originals, list(retrained.values()))
    found = {
        n: board.measure_original() if n == "original" else board.measure(m, "unlearned")
        for n, m in plain.items()
    }
    return Evaluation(found | {name: board.measure_oracle(i) for i, name in enumerate(oracles)})
