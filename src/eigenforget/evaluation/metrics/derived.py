"""Scores that follow from other scores: tug of war and the Anamnesis index."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Better, Part, Score, Trace
from eigenforget.evaluation.metrics.panel import too_few

ScoreValues = Mapping[str, float | None]
"""Score values by name; None where a score is not applicable."""

TERMS = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy")
MIA_TERMS = ("mia_auc", "retain_accuracy", "test_retain_accuracy")


def derived(
    own: ScoreValues, oracles: Sequence[ScoreValues], counts: Mapping[Part, int] | None = None
) -> tuple[Score, ...]:
    """`tow`, `tow_mia` and `ain` of a model from its scores and those of the retrained models.

    tow is the mean over the oracles of `tug_of_war`; tow_mia has the AUC of the membership attack
    (mia_auc) in place of the forget accuracy. Both are in [0, 1] without unit. 1 means the very
    values of a retrained model, which a second retrained model misses by the noise of training. So
    higher is better; a low value says that something differs, not in which sense (trace "both").
    ain: see `anamnesis_index`; trace "below", since relearning faster than an oracle shows what was
    retained.

    Not applicable: the model or an oracle lacks an input, there is no oracle; for tow and tow_mia
    fewer than 10 samples behind an accuracy, since products have no interval that would show it.

    Args:
        own: The model's scores.
        oracles: Those of the retrained models; for one of these, of the others.
        counts: Samples of each part, where they are known.

    Sources: tow and tow_mia: Zhao et al. (arXiv 2406.01257). ain: Chundawat et al. (arXiv
    2201.05629). Deviations: the test term leaves out held-out samples of forgotten classes, and
    tow_mia compares the AUC of a population attack in place of the accuracy of a trained one.
    """
    return (
        _score(
            "tow",
            own,
            oracles,
            TERMS,
            lambda: _mean([tug_of_war(_known(own), _known(o)) for o in oracles]),
            counts or {},
        ),
        _score(
            "tow_mia",
            own,
            oracles,
            MIA_TERMS,
            lambda: _mean([_product(_known(own), _known(o), MIA_TERMS) for o in oracles]),
            counts or {},
        ),
        _score(
            "ain",
            own,
            oracles,
            ("relearn_steps",),
            lambda: anamnesis_index(_known(own), [_known(o) for o in oracles]),
            {},
        ),
    )


def tug_of_war(found: Mapping[str, float], oracle: Mapping[str, float]) -> float:
    """Π (1 − |accuracy − oracle's|) over forget, retain and retained held-out accuracy, in [0, 1].

    1 is the oracle's.
    """
    return _product(found, oracle, TERMS)


def anamnesis_index(found: Mapping[str, float], oracles: Sequence[Mapping[str, float]]) -> float:
    """relearn_steps of the model over the oracles' mean: below 1 it relearns faster than they do.

    Raises:
        EigenforgetError: A number of steps is below 1.
    """
    steps = [found["relearn_steps"], *(oracle["relearn_steps"] for oracle in oracles)]
    wrong = [s for s in steps if s < 1]
    if wrong:
        raise EigenforgetError(f"relearn_steps counts from 1, got {listed(wrong)}")
    return steps[0] / _mean(steps[1:])


def _score(
    name: str,
    own: ScoreValues,
    oracles: Sequence[ScoreValues],
    needed: Sequence[str],
    value: Callable[[], float],
    counts: Mapping[Part, int],
) -> Score:
    better: Better = "reference" if name == "ain" else "higher"
    trace: Trace = "below" if name == "ain" else "both"
    span = (0.0, math.inf) if name == "ain" else (0.0, 1.0)
    parts = {part: n for part, n in counts.items() if f"{part}_accuracy" in needed}
    reason = _missing(own, oracles, needed) or (too_few(**parts) if parts else "")
    return Score(name, None if reason else value(), "1", better, span, reason=reason, trace=trace)


def _missing(own: ScoreValues, oracles: Sequence[ScoreValues], needed: Sequence[str]) -> str:
    """What is missing, or nothing."""
    if not oracles:
        return "there is no retrained model to compare with"
    lacking = [name for name in needed if own.get(name) is None]
    if lacking:
        return f"the model has no {listed(lacking)}"
    for place, oracle in enumerate(oracles, start=1):
        lacking = [name for name in needed if oracle.get(name) is None]
        if lacking:
            return f"retrained model {place} of {len(oracles)} has no {listed(lacking)}"
    return ""


def _known(values: ScoreValues) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _product(
    found: Mapping[str, float], oracle: Mapping[str, float], terms: Sequence[str]
) -> float:
    return math.prod(1 - abs(found[name] - oracle[name]) for name in terms)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
