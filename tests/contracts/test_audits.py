"""What every entry of AUDITS must do; a new entry is tested for free."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from eigenforget.core.types import Part, Score
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.evidence import Audit, Evidence, Findings, Observation
from tests.toys import arrays, evidence, without, world

EVERY = pytest.mark.parametrize("kind", list(AUDITS), ids=lambda kind: kind.__name__)
REQUESTS = pytest.mark.parametrize("by_class", [True, False], ids=["class", "random"])
PARTS: tuple[Part, ...] = ("forget", "retain", "test_forget", "test_retain")
NEEDS_A_CLASS = {"prototypes", "neighbours", "idi"}
"""Audits that say nothing of requests in which no class is gone as a whole."""
SLOW_TO_COME_BACK = {"relearn_steps"}
"""Scores that may have no value on complete evidence: the goal need not be reached."""


def complete(*, by_class: bool) -> Evidence:
    """Enough samples for every score: 1,000 unseen samples for a false-positive rate of 0.1 %."""
    sizes = (
        {"forget": 210, "test_forget": 1000} if by_class else {"forget": 220, "test_forget": 2000}
    )
    found = evidence(world(by_class=by_class, **sizes))
    held = found.parts["test_retain"]
    return replace(
        found,
        parts={**found.parts, "test_trigger": held._replace(labels=np.zeros_like(held.labels))},
    )


def scores_of(kind: type[Audit], found: Evidence, seed: int = 0) -> tuple[Score, ...]:
    answer = kind()(found, seed)
    return answer.scores if isinstance(answer, Findings) else answer


@cache
def scores_of_toys(kind: type[Audit], by_class: bool) -> tuple[Score, ...]:
    return scores_of(kind, evidence(world(by_class=by_class)))


def declared(score: Score) -> tuple[object, ...]:
    return score.name, score.unit, score.better, score.range, score.trace


@EVERY
@REQUESTS
def test_scores_are_declared_have_a_value_and_are_in_range(
    kind: type[Audit], by_class: bool
) -> None:
    scores = scores_of(kind, complete(by_class=by_class))
    assert scores and len({s.name for s in scores}) == len(scores)
    assert kind.reads in ("logits", "features", "model")
    for s in scores:
        assert (
            s.unit
            and s.better in ("higher", "lower", "reference")
            and s.trace in ("above", "below", "both", "")
        )
        assert s.better != "reference" or s.trace, (
            f"{s.name}: on which side of the retrained models does a trace show?"
        )
        if kind.name in NEEDS_A_CLASS and not by_class:
            assert s.value is None and "class" in s.reason
            continue
        if s.name in SLOW_TO_COME_BACK and s.value is None:
            continue
        assert s.value is not None, f"{s.name}: {s.reason}"
        assert s.range[0] <= s.value <= s.range[1]
        if s.low is not None and s.high is not None:
            assert s.range[0] <= s.low <= s.value <= s.high <= s.range[1]


@EVERY
def test_names_and_what_is_declared_do_not_depend_on_the_request(kind: type[Audit]) -> None:
    one, two = (scores_of_toys(kind, by_class) for by_class in (True, False))
    assert [declared(s) for s in one] == [declared(s) for s in two]


@EVERY
@REQUESTS
def test_one_seed_gives_the_same_bits_and_nothing_is_touched(
    kind: type[Audit], by_class: bool
) -> None:
    found = evidence(world(by_class=by_class))
    model = found.model
    model[
        1
    ].train()  # one module's flag differs from the others': all must be as they were, not all alike
    model[0].weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = (
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
    )
    everyone = [found.parts, found.original, *found.oracles, *found.peers]
    before = [arrays(seen) for seen in everyone if seen is not None]
    inputs = {part: source.inputs.clone() for part, source in found.sources.items()}  # type: ignore[attr-defined]
    try:
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        drawn = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]
        first = scores_of(kind, found)
        assert torch.equal(torch.get_rng_state(), drawn[0]), (
            "the global random state of torch is nobody's to move"
        )
        assert np.array_equal(np.random.get_state()[1], drawn[1]) and random.getstate() == drawn[2]  # type: ignore[index]
        torch.manual_seed(6)
        assert scores_of(kind, found) == first
        assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
        assert (
            [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()],
        ) == flags
        assert all(p.grad is None for p in model.parameters())
    finally:
        model.eval()
        model[0].weight.requires_grad_(True)
    for seen, old in zip((s for s in everyone if s is not None), before, strict=True):
        assert all(np.array_equal(a, old[key]) for key, a in arrays(seen).items())
    assert all(torch.equal(source.inputs, inputs[part]) for part, source in found.sources.items())  # type: ignore[attr-defined]


@EVERY
@REQUESTS
@pytest.mark.parametrize(
    "missing", [*PARTS, "original", "oracles", "peers", "sources", "engine", "all but the model"]
)
def test_what_is_missing_is_said_never_a_number(
    kind: type[Audit], by_class: bool, missing: str
) -> None:
    whole = evidence(world(by_class=by_class))
    if missing in PARTS:
        part: Part = missing  # type: ignore[assignment]
        found = replace(
            whole,
            parts=without(whole.parts, part),
            oracles=tuple(without(o, part) for o in whole.oracles),
            peers=tuple(without(p, part) for p in whole.peers),
            original=without(whole.original or {}, part),
            sources={p: s for p, s in whole.sources.items() if p != part},
        )
    else:
        empty = {"original": None, "oracles": (), "peers": (), "sources": {}, "engine": None}
        found = (
            replace(whole, parts={}, **empty)
            if missing == "all but the model"
            else replace(whole, **{missing: empty[missing]})
        )
    full = {s.name: s for s in scores_of_toys(kind, by_class)}
    scores = scores_of(kind, found)
    assert [s.name for s in scores] == list(full)
    for score in scores:
        assert (score.value is None) == bool(score.reason) and "\n" not in score.reason
        assert score.value is None or np.isfinite(score.value)
        assert missing != "all but the model" or score.value is None
        assert declared(score) == declared(full[score.name])


def emptied_at(seen: Observation, part: Part) -> Observation:
    return {
        p: rows._replace(**{c: getattr(rows, c)[:0] for c in rows._fields[:4]})
        if p == part
        else rows
        for p, rows in seen.items()
    }


@EVERY
def test_empty_parts_are_missing_parts(kind: type[Audit]) -> None:
    whole = evidence(world())
    for part in PARTS:
        emptied = replace(
            whole,
            parts=emptied_at(whole.parts, part),
            oracles=tuple(emptied_at(o, part) for o in whole.oracles),
            peers=tuple(emptied_at(p, part) for p in whole.peers),
            original=emptied_at(whole.original or {}, part),
            sources={
                p: s.subset(np.arange(0)) if p == part else s for p, s in whole.sources.items()
            },
        )
        gone = replace(
            whole,
            parts=without(whole.parts, part),
            sources={p: s for p, s in whole.sources.items() if p != part},
        )
        for one, two in zip(scores_of(kind, emptied), scores_of(kind, gone), strict=True):
            assert (one.value is None) == (two.value is None), (
                f"{one.name} without {part}: {one.value}, {two.value}"
            )
