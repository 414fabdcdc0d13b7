"""What the numbers say of each unlearned model, in plain words and by fixed rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from eigenforget.report.glossary import BEHAVIOUR, FEATURE, MEMBERSHIP, group, label
from eigenforget.report.table import (
    FEATURE_METRICS,
    OUTPUT_METRICS,
    Row,
    Table,
    number,
    percent,
    signed,
)

ACCURACY_TOLERANCE = 0.02
"""Accuracies this close to the retrained models count as equal to them (or closer than these are to
each other).
"""

MIN_SEPARATION = 0.02
"""A feature metric speaks only where original and retrained differ by more than this: with
random-sample forgetting, where DA has nothing to show, they differ by up to this much."""

STRONG = 2.0
"""Halves of the band beyond which a score counts: of some forty scores one or two lie just outside
by chance.
"""

NEAR = 0.1
"""At least 1 − NEAR of the way, and at most 1 + NEAR, counts as having arrived."""

_NAMED = 6
"""Scores that a sentence names before it counts the rest."""

Tone = Literal["good", "mixed", "bad", "unknown"]


class Recovery(NamedTuple):
    """How far a feature metric went from the original (0) to the mean of the retrained models (1).

    fraction None: why says why. within: the value lies among those of the retrained models.
    trained_on: the method optimises this very metric, so that having moved it is no evidence that
    the features forgot.
    """

    metric: str
    fraction: float | None
    why: str = ""
    within: bool = False
    trained_on: bool = False

    @property
    def far(self) -> bool:
        """Nearer the original than the retrained models."""
        return self.fraction is not None and self.fraction < 0.5

    @property
    def past(self) -> bool:
        return self.fraction is not None and self.fraction > 1 + NEAR and not self.within

    @property
    def arrived(self) -> bool:
        return self.fraction is not None and (self.within or abs(1 - self.fraction) <= NEAR)

    @property
    def counts(self) -> bool:
        """Whether it weighs in the headline: it can tell, and is not a success in what the method
        trains on.
        """
        return self.fraction is not None and (self.far or not self.trained_on)


class Verdict(NamedTuple):
    model: str
    role: str
    tone: Tone
    headline: str
    sentences: tuple[str, ...]
    recoveries: tuple[Recovery, ...]


def verdicts(table: Table) -> list[Verdict]:
    """One verdict per unlearned or control model, in the order of the table."""
    return [_verdict(row, table) for row in table.rows if row.role in ("unlearned", "control")]


def limits(table: Table) -> list[str]:
    """What cannot be said, or only with care, because a reference is missing."""
    oracles = sum(row.role == "oracle" and row.status == "ok" for row in table.rows)
    said = []
    if not table.reference:
        said.append(
            "There is no retrained model among these records. It cannot be said whether any model is like one that"
            " never saw the forgotten data: no gaps, no share of the way and no share of retraining are shown."
        )
    elif oracles == 1:
        said.append(
            "There is one retrained model only. How much retrained models differ among themselves is unknown, so a"
            " small gap may be chance."
        )
    elif oracles == 2:
        said.append(
            "There are two retrained models only. A band of two is wide, so few models lie outside it: being inside says little."
        )
    if not table.original:
        said.append(
            "There is no original model among these records. How far any model moved from it cannot be said."
        )
    return said


def recovery(row: Row, metric: str, table: Table) -> Recovery | None:
    """r = (value − original) / (oracle mean − original), where the two differ by more than the
    oracles' spread.

    None when the model has no such score; fraction None, with the reason, when r would not mean
    anything.
    """
    cell = row.cells.get(metric)
    if cell is None:
        return None
    trained_on = metric in row.optimises
    if cell.value is None:
        return Recovery(metric, None, f"not measured: {cell.reason}")
    if metric not in table.reference:
        return Recovery(metric, None, "there is no retrained value")
    if metric not in table.original:
        return Recovery(metric, None, "there is no value of the original")
    reference, original = table.reference[metric], table.original[metric]
    if not separates(metric, table):
        pair = f"original ({number(original)}) from the retrained models ({number(reference.mean)})"
        return Recovery(metric, None, f"does not tell the {pair} here")
    within = reference.low <= cell.value <= reference.high
    return Recovery(
        metric,
        (cell.value - original) / (reference.mean - original),
        within=within,
        trained_on=trained_on,
    )


def recoveries(row: Row, table: Table) -> tuple[Recovery, ...]:
    """Those of the headline feature metrics that the model has."""
    return tuple(
        r for r in (recovery(row, metric, table) for metric in FEATURE_METRICS) if r is not None
    )


def separates(metric: str, table: Table) -> bool:
    """Whether original and retrained models, which must both have the metric, differ in it by more
    than retrained models do themselves.
    """
    reference = table.reference[metric]
    return (
        abs(reference.mean - table.original[metric]) > max(reference.spread, MIN_SEPARATION) + 1e-9
    )


def features_kept(recoveries: Sequence[Recovery]) -> bool:
    """More than half of the metrics that count are nearer the original than the retrained models."""
    counted = [r for r in recoveries if r.counts]
    return 2 * sum(r.far for r in counted) > len(counted)


def _verdict(row: Row, table: Table) -> Verdict:
    if row.status != "ok":
        return Verdict(
            row.model, row.role, "unknown", f"no result: {row.status}", (row.reason,), ()
        )
    ways = recoveries(row, table)
    tone, headline = _headline(forgotten_by_accuracy(row, table), ways)
    if tone == "good" and (left := _strong_traces(row, table)):
        tone, headline = (
            "mixed",
            f"accuracy and features say forgotten, but a trace is left: {_joined(left)}",
        )
    sentences = [
        s
        for s in (
            _outputs(row, table),
            _features(ways),
            _bands(row, table),
            _cost(row, table),
            _time(row),
        )
        if s
    ]
    return Verdict(row.model, row.role, tone, headline, tuple(sentences), ways)


def _headline(forgotten: bool | None, recoveries: Sequence[Recovery]) -> tuple[Tone, str]:
    telling = [r for r in recoveries if r.fraction is not None]
    if forgotten is None:
        return "unknown", "cannot be judged: no forget accuracy to compare with a retrained model"
    if not forgotten:
        return "bad", "accuracy is not that of a retrained model" + _features_too(telling)
    if not any(r.counts for r in telling):
        return "unknown", f"accuracy says forgotten; {_cannot_tell(telling)}"
    if features_kept(telling):
        return "bad", "accuracy says forgotten, features say not"
    if all(r.arrived for r in telling):
        return "good", "accuracy says forgotten, and so do the features"
    if all(r.arrived or r.past for r in telling):
        return "mixed", "accuracy says forgotten, features went past the retrained models"
    return "mixed", "accuracy says forgotten, features only in part"


def _features_too(telling: Sequence[Recovery]) -> str:
    if not any(r.counts for r in telling):
        return f"; {_cannot_tell(telling)}"
    if features_kept(telling):
        return ", and neither are the features"
    return (
        ", though the features are"
        if all(r.arrived for r in telling)
        else "; the features moved in part"
    )


def _cannot_tell(telling: Sequence[Recovery]) -> str:
    return (
        "only the feature metric that it trains on can tell"
        if telling
        else "no feature metric can tell"
    )


def forgotten_by_accuracy(row: Row, table: Table) -> bool | None:
    """Whether forget accuracy, and test forget accuracy where there is one, are the retrained
    models'; None: neither can be compared.
    """
    answers = [
        _within(row, name, table)
        for name in ("forget_accuracy", "test_forget_accuracy")
        if name in row.cells and row.cells[name].gap is not None
    ]
    return all(answers) if answers else None


def _within(row: Row, name: str, table: Table) -> bool:
    gap = row.cells[name].gap
    # 0.892 − 0.912 is not quite −0.02 in binary.
    return (
        gap is not None and abs(gap) <= max(ACCURACY_TOLERANCE, table.reference[name].spread) + 1e-9
    )


def _outputs(row: Row, table: Table) -> str:
    parts = []
    for name in OUTPUT_METRICS:
        cell = row.cells.get(name)
        if cell is None or cell.value is None:
            continue
        if cell.gap is not None:
            parts.append(
                f"{label(name)} {number(cell.value)} (retrained {number(table.reference[name].mean)})"
            )
        elif name in table.original:
            parts.append(
                f"{label(name)} {number(cell.value)} (original {number(table.original[name])})"
            )
        else:
            parts.append(f"{label(name)} {number(cell.value)}")
    return f"Outputs: {_joined(parts)}." if parts else "No output metric was measured."


def _features(recoveries: Sequence[Recovery]) -> str:
    if not recoveries:
        return (
            "No feature metric was measured, so nothing is known of what the features still hold."
        )
    far = [label(r.metric) for r in recoveries if r.far]
    past = [label(r.metric) for r in recoveries if r.past]
    moved = [f"{label(r.metric)} {_way(r.fraction)}" for r in recoveries if r.fraction is not None]
    parts = []
    if moved:
        parts.append(
            f"Of the way from the original to the retrained models, the features went: {_joined(moved)}."
        )
    if far:
        parts.append(f"Nearer the original than the retrained models: {_joined(far)}.")
    own = [label(r.metric) for r in recoveries if r.trained_on and not r.far]
    if own:
        parts.append(
            f"The method trains on {_joined(own)}, which therefore {'do' if len(own) > 1 else 'does'} not count in the headline."
        )
    if past:
        parts.append(
            f"Went past the retrained models, which is not what retraining does: {_joined(past)}."
        )
    parts.extend(f"{label(r.metric)}: {r.why}." for r in recoveries if r.fraction is None)
    return " ".join(parts)


def _strong_traces(row: Row, table: Table) -> list[str]:
    """Scores of features, behaviour and membership that call the model residual by more than STRONG
    halves of the band.
    """
    groups = (FEATURE, BEHAVIOUR, MEMBERSHIP)
    found = [
        (abs(c.units or 0.0), label(name, table))
        for name, c in row.cells.items()
        if c.verdict == "residual" and group(name, table) in groups
    ]
    return [name for units, name in sorted(found, reverse=True) if units > STRONG][:3]


def _bands(row: Row, table: Table) -> str:
    """How many scores lie in the retrained models' band, and which say that something is left or
    that too much is gone.
    """
    found = {
        name: cell.verdict for name, cell in row.cells.items() if cell.verdict and "@" not in name
    }
    if not found:
        return ""
    parts = [
        f"Of {len(found)} scores with a band of retrained models, {sum(v == 'in' for v in found.values())} are in it."
    ]
    for verdict, words in (
        ("residual", "A trace is left"),
        ("over-forgotten", "Over-forgotten"),
        ("off", "Different"),
    ):
        names = [label(name, table) for name, v in found.items() if v == verdict]
        if names:
            rest = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
            parts.append(f"{words} by {_joined([*names[:_NAMED], *rest])}.")
    return " ".join(parts)


def _way(fraction: float) -> str:
    whole = round(100 * fraction)
    return f"{whole}%" if whole >= 0 else f"{whole}% (away from them)"


def _cost(row: Row, table: Table) -> str:
    name = "test_retain_accuracy"
    cell = row.cells.get(name)
    if cell is None or cell.gap is None:
        return ""
    if _within(row, name, table):
        return f"On held-out samples of what is kept it is as accurate as the retrained models ({signed(cell.gap)})."
    word = "less" if cell.gap < 0 else "more"
    return f"On held-out samples of what is kept it is {word} accurate than the retrained models ({signed(cell.gap)})."


def _time(row: Row) -> str:
    if row.seconds is None or row.cost is None:
        return ""
    share = f"{percent(row.cost.value)} of the {row.cost.clock} time of retraining"
    return f"It took {row.seconds:.1f} s, and {share}."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
