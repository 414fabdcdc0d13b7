"""What every score says where there are too few samples: an honest number, or one line why not."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from functools import cache
from typing import get_args

import numpy as np
import pytest

from eigenforget.core.types import Part, Score
from eigenforget.data.sources import Source
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.metrics import derived
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES, no_samples, too_few, too_few_of_class
from eigenforget.evaluation.scoring import values_of
from tests.toys import World, evidence, world

FEW: dict[str, tuple[bool, Mapping[Part, int]]] = {
    **{f"{n} samples": (False, {"forget": n}) for n in (1, 2, 3, 10)},
    **{f"class of {n}": (True, {"forget": n}) for n in (1, 2, 3, 10)},
    "no test samples of the class": (True, {"test_forget": 0}),
    "one test sample of the class": (True, {"test_forget": 1}),
    "one test sample": (True, {"test_forget": 0, "test_retain": 1}),
    "two test samples": (False, {"test_retain": 2}),
    "three retained samples": (True, {"retain": 3}),
    "one retained sample": (False, {"retain": 1}),
}
"""Whether a class is forgotten, and how many samples of a part there are; 40 or more of others."""
CASES = pytest.mark.parametrize("case", list(FEW))

OF_PART: dict[str, Part] = {
    "forget_accuracy": "forget",
    "retain_accuracy": "retain",
    "test_forget_accuracy": "test_forget",
    "test_retain_accuracy": "test_retain",
    "quantised_forget": "forget",
    "quantised_retain": "test_retain",
    "mapped_forget": "forget",
    "mapped_retain": "test_retain",
    "residual_knowledge": "forget",
    "neighbour_accuracy": "test_retain",
}
"""Shares of all samples of a part."""
ONE_CLASS: dict[str, tuple[Part, Part]] = dict.fromkeys(
    ("lp_forget", "lp_few_forget", "ncm_forget", "prototype_forget"), ("test_forget", "forget")
)
"""Shares of a class's test samples, or of the forget set where no class is gone."""


def cut(found: World, counts: Mapping[Part, int]) -> World:
    parts: dict[Part, Source] = {}
    for part, source in found.parts.items():
        count = counts.get(part, len(source))
        if count:
            parts[part] = source.subset(np.arange(count))
    return found._replace(parts=parts)


@cache
def measured(case: str) -> tuple[World, tuple[Score, ...], tuple[str, ...]]:
    """The request, every score of its original beside oracles, and what was warned of."""
    by_class, counts = FEW[case]
    found = cut(world(by_class=by_class), counts)
    opt_in = [kind() for kind in AUDITS if getattr(kind, "opt_in", False)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        given = evidence(found)
        scoring = found.panel(audits=opt_in).scoring(given.model, given.parts)
        base = scoring.findings(given, given).scores
        values = values_of(base)
        counts = {part: len(source) for part, source in found.parts.items()}
        scores = (*base, *derived(values, [values], counts))
    return found, scores, tuple(str(w.message) for w in said)


@CASES
def test_each_score_is_a_number_or_says_why_not(case: str) -> None:
    _, scores, said = measured(case)
    assert len({s.name for s in scores}) == len(scores) > 60
    assert not said
    for s in scores:
        assert (s.value is None) == bool(s.reason), s.name
        assert "\n" not in s.reason and len(s.reason) < 200, s.name
        numbers = [v for v in (s.value, s.low, s.high) if v is not None]
        assert all(map(math.isfinite, numbers)), s.name
        assert (s.low is None) == (s.high is None)
        if s.low is not None and s.high is not None and s.value is not None:
            assert s.low <= s.value <= s.high, s.name


@CASES
def test_what_is_too_few_is_named_with_its_number_and_what_is_needed(case: str) -> None:
    """Of a part with fewer samples than a mean needs, only shares of it are numbers."""
    _, scores, _ = measured(case)
    whole = [s.name for s in measured("10 samples")[1]]
    for part, count in FEW[case][1].items():
        if not 0 < count < MIN_SAMPLES or part != "forget":
            continue
        told = [s for s in scores if re.search(rf"got .*\b{count}\b", s.reason)]
        assert len(told) > 20
        for s in told:
            assert re.search(r"needs \d+ .*, got ", s.reason), f"{s.name}: {s.reason}"
    assert [s.name for s in scores] == whole


@CASES
def test_an_interval_is_no_narrower_than_the_samples_allow(case: str) -> None:
    """A share of n samples is known to a Wilson interval's width at best, 0.2 for ten."""
    found, scores, _ = measured(case)
    by_class = FEW[case][0]
    for s in scores:
        part = OF_PART.get(s.name)
        if s.name in ONE_CLASS:
            part = ONE_CLASS[s.name][0 if by_class else 1]
        if s.value is None or part is None:
            continue
        count = len(found.parts[part]) if part in found.parts else 0
        assert count, f"{s.name} has a value without any sample of {part}"
        assert s.low is not None and s.high is not None
        least = 3.84 / (count + 3.84)  # the width of Wilson's interval at a share of 0 or 1
        assert s.high - s.low >= 0.99 * least, f"{s.name}: {s.high - s.low:.3f} of {count} samples"


@CASES
def test_other_scores_need_ten_samples_of_what_they_look_at(case: str) -> None:
    found, scores, _ = measured(case)
    counts = {part: len(source) for part, source in found.parts.items()}
    few = {p for p in ("forget", "test_forget") if 0 < counts.get(p, 40) < MIN_SAMPLES}
    shares = {*OF_PART, *ONE_CLASS, "best_cluster_f1"}
    for s in scores:
        of_forget = "forget" in s.name and s.name not in shares
        looked_at = "test_forget" if s.name.startswith(("cka", "procrustes")) else "forget"
        looked_at = looked_at if FEW[case][0] else "forget"
        if of_forget and looked_at in few:
            assert s.value is None, f"{s.name} is {s.value} of {counts.get(looked_at)} samples"
        if s.name in ("da", "da_energy", "zrf", "tow", "idi") and "forget" in few:
            assert s.value is None, f"{s.name} is {s.value} of {counts['forget']} samples"
        if s.name.startswith("da") and counts.get("retain", 40) < MIN_SAMPLES:
            assert s.value is None, f"{s.name} is {s.value} of {counts['retain']} samples"


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_a_class_of_few_samples_cannot_be_found_by_a_fresh_head(n: int) -> None:
    cut_to = cut(world(), {"forget": n})
    scores = {s.name: s for s in cut_to.panel().measure(cut_to.originals[0]).scores}
    needed = f"needs 10 training samples of class 2, got {n}"
    for name in ("lp_forget", "ncm_forget"):
        assert scores[name].reason == needed
    if n > 1:
        assert scores["lp_few_forget"].reason == needed
        assert scores["lp_few_retain"].value is not None
    assert scores["lp_retain"].value is not None and scores["ncm_retain"].value is not None


def test_words_of_what_is_too_few() -> None:
    assert too_few(forget=10) == too_few_of_class({3: 10}, "training") == ""
    assert too_few(forget=9) == "needs 10 samples of the forget set, got 9"
    assert too_few(forget=9, retain=10) == too_few(forget=9)
    assert too_few(forget=1, retain=2).count("needs 10 samples of the ") == 2
    assert too_few(3, forget=3) == "" and too_few(4, forget=3).startswith("needs 4 ")
    assert too_few(test_forget=0) == no_samples("test_forget")
    for part in get_args(Part):
        assert part not in no_samples(part).split() or part in ("forget", "retain")
    assert too_few_of_class({3: 40, 5: 2, 7: 1}, "held-out") == (
        "needs 10 held-out samples of class 7, got 1"
    )
