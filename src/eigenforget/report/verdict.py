"""What the numbers say about each unlearned model, in plain words and by fixed rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from eigenforget.core.text import joined
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
"""Accuracies this close to the retrained models' mean count as equal to it, and so do those that
are closer than the retrained models are to each other."""

MIN_SEPARATION = 0.02
"""A feature metric speaks only where original and retrained models differ by more than this: where
random samples are forgotten, and DA has nothing to show, they differ by up to this much."""

STRONG = 2.0
"""Half-widths of the band beyond which a score counts: of some forty scores one or two lie just
outside the band by chance."""

NEAR = 0.1
"""At least 1 − NEAR of the way, and at most 1 + NEAR, counts as having arrived."""

_NAMED = 6
"""Scores that a sentence names before it counts the others."""

Tone = Literal["good", "mixed", "bad", "unknown"]


class Recovery(NamedTuple):
    """How far a feature metric went from the original (0) to the mean of the retrained models (1).

    Attributes:
        metric: The metric.
        fraction: Share of the way; None where `why` says that there is none.
        why: Why there is no fraction.
        within: Whether the value lies among those of the retrained models.
        trained_on: Whether the method optimises this very metric, so that having moved it is no
            evidence that the features forgot.
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
        """Beyond the retrained models."""
        return self.fraction is not None and self.fraction > 1 + NEAR and not self.within

    @property
    def arrived(self) -> bool:
        """Where the retrained models are."""
        return self.fraction is not None and (self.within or abs(1 - self.fraction) <= NEAR)

    @property
    def counts(self) -> bool:
        """Whether it has weight in the headline.

        It must be able to tell, and be no success in what the method trains on.
        """
        return self.fraction is not None and (self.far or not self.trained_on)


class Verdict(NamedTuple):
    """What is said of a model: a tone, a headline, sentences, and how far its features went."""

    model: str
    role: str
    tone: Tone
    headline: str
    sentences: tuple[str, ...]
    recoveries: tuple[Recovery, ...]


def verdicts(table: Table) -> list[Verdict]:
    """One verdict per unlearned or control model, in the order of the table."""
    return [_verdict(row, table) for row in table.of_role("unlearned", "control")]


def limits(table: Table) -> list[str]:
    """What cannot be said, or only with care, because models to compare with are missing."""
    oracles = sum(row.has_result for row in table.of_role("oracle"))
    said = []
    if not table.reference:
        said.append(
            "There is no retrained model among these records, so they cannot show whether any model"
            " is like one that never saw the forget set. The page has no gaps, no progress from the"
            " original towards retraining, and no share of the cost of retraining."
        )
    elif oracles == 1:
        said.append(
            "There is only one retrained model. How much retrained models differ from each other is"
            " unknown, so a small gap may be chance."
        )
    elif oracles == 2:
        said.append(
            "There are only two retrained models. Their band is wide, so few models lie outside it,"
            " and being inside says little."
        )
    if not table.original:
        said.append(
            "There is no original model among these records, so they cannot show how far any model"
            " moved from it."
        )
    return said


def recovery(row: Row, metric: str, table: Table) -> Recovery | None:
    """The share of the way: r = (value − original) / (mean of the retrained models − original).

    Returns:
        None when the model has no such score. The fraction is None, with the reason, where r would
        mean nothing, as where original and retrained models do not differ by more than the spread
        of the latter.
    """
    cell = row.cells.get(metric)
    if cell is None:
        return None
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
    return Recovery(
        metric,
        (cell.value - original) / (reference.mean - original),
        within=reference.low <= cell.value <= reference.high,
        trained_on=metric in row.optimises,
    )


def recoveries(row: Row, table: Table) -> tuple[Recovery, ...]:
    """Those of the headline feature metrics that the model has."""
    found = (recovery(row, metric, table) for metric in FEATURE_METRICS)
    return tuple(r for r in found if r is not None)


def separates(metric: str, table: Table) -> bool:
    """Whether original and retrained models differ by more than retrained models do themselves.

    Both must have the metric.
    """
    reference = table.reference[metric]
    least = max(reference.spread, MIN_SEPARATION)
    return abs(reference.mean - table.original[metric]) > least + 1e-9


def features_kept(ways: Sequence[Recovery]) -> bool:
    """Whether more than half of the metrics that count are nearer the original."""
    counted = [r for r in ways if r.counts]
    return 2 * sum(r.far for r in counted) > len(counted)


def forgotten_by_accuracy(row: Row, table: Table) -> bool | None:
    """Whether the forget accuracy is the retrained models', and the test one where there is one.

    None: neither can be compared.
    """
    answers = [
        _is_near(row, name, table)
        for name in ("forget_accuracy", "test_forget_accuracy")
        if name in row.cells and row.cells[name].gap is not None
    ]
    return all(answers) if answers else None


def _verdict(row: Row, table: Table) -> Verdict:
    if not row.has_result:
        headline = f"no result: {row.status}"
        return Verdict(row.model, row.role, "unknown", headline, (row.reason,), ())
    ways = recoveries(row, table)
    tone, headline = _headline(forgotten_by_accuracy(row, table), ways)
    if tone == "good" and (left := _strong_traces(row, table)):
        tone = "mixed"
        headline = f"accuracy and features say forgotten, but a trace is left: {joined(left)}"
    sentences = (
        _outputs(row, table),
        _features(ways),
        _bands(row, table),
        _utility(row, table),
        _cost(row),
    )
    return Verdict(row.model, row.role, tone, headline, tuple(s for s in sentences if s), ways)


def _headline(forgotten: bool | None, ways: Sequence[Recovery]) -> tuple[Tone, str]:
    telling = [r for r in ways if r.fraction is not None]
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
    if all(r.arrived for r in telling):
        return ", though the features are"
    return "; the features moved in part"


def _cannot_tell(telling: Sequence[Recovery]) -> str:
    if telling:
        return "only the feature metric that it trains on can tell"
    return "no feature metric can tell"


def _is_near(row: Row, name: str, table: Table) -> bool:
    gap = row.cells[name].gap
    most = max(ACCURACY_TOLERANCE, table.reference[name].spread)
    # 0.892 − 0.912 is not quite −0.02 in binary.
    return gap is not None and abs(gap) <= most + 1e-9


def _outputs(row: Row, table: Table) -> str:
    parts = []
    for name in OUTPUT_METRICS:
        cell = row.cells.get(name)
        if cell is None or cell.value is None:
            continue
        beside = ""
        if cell.gap is not None:
            beside = f" (retrained {number(table.reference[name].mean)})"
        elif name in table.original:
            beside = f" (original {number(table.original[name])})"
        parts.append(f"{label(name)} {number(cell.value)}{beside}")
    return f"Outputs: {joined(parts)}." if parts else "No output metric was measured."


def _features(ways: Sequence[Recovery]) -> str:
    if not ways:
        return "No feature metric was measured, so it is unknown what the features still hold."
    moved = [f"{label(r.metric)} {_way(r.fraction)}" for r in ways if r.fraction is not None]
    far = [label(r.metric) for r in ways if r.far]
    own = [label(r.metric) for r in ways if r.trained_on and not r.far]
    past = [label(r.metric) for r in ways if r.past]
    verb = "do" if len(own) > 1 else "does"
    sentences = (
        (
            moved,
            "Progress of the features from the original (0%) to the retrained models (100%):"
            f" {joined(moved)}.",
        ),
        (far, f"Nearer the original than the retrained models: {joined(far)}."),
        (
            own,
            f"The method trains on {joined(own)}, which therefore {verb} not count in the"
            " headline.",
        ),
        (
            past,
            f"Went past the retrained models, as retraining does not: {joined(past)}.",
        ),
    )
    unknown = [f"{label(r.metric)}: {r.why}." for r in ways if r.fraction is None]
    return " ".join([*(sentence for of, sentence in sentences if of), *unknown])


def _strong_traces(row: Row, table: Table) -> list[str]:
    """Scores that say, by more than STRONG half-widths of the band, that a trace is left.

    Those of features, behaviour and membership, the three strongest.
    """
    groups = (FEATURE, BEHAVIOUR, MEMBERSHIP)
    found = [
        (abs(c.units or 0.0), label(name, table))
        for name, c in row.cells.items()
        if c.verdict == "residual" and group(name, table) in groups
    ]
    return [name for units, name in sorted(found, reverse=True) if units > STRONG][:3]


def _bands(row: Row, table: Table) -> str:
    """How many scores lie in the retrained models' band, and what the others say."""
    found = {n: cell.verdict for n, cell in row.cells.items() if cell.verdict and "@" not in n}
    if not found:
        return ""
    inside = sum(verdict == "in" for verdict in found.values())
    parts = [f"Of {len(found)} scores with a band of retrained models, {inside} are in it."]
    words = {"residual": "A trace is left", "over-forgotten": "Over-forgotten", "off": "Different"}
    for verdict, said in words.items():
        names = [label(name, table) for name, v in found.items() if v == verdict]
        if names:
            more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
            parts.append(f"{said} by {joined([*names[:_NAMED], *more])}.")
    return " ".join(parts)


def _way(fraction: float) -> str:
    whole = round(100 * fraction)
    return f"{whole}%" if whole >= 0 else f"{whole}% (away from them)"


def _utility(row: Row, table: Table) -> str:
    name = "test_retain_accuracy"
    cell = row.cells.get(name)
    if cell is None or cell.gap is None:
        return ""
    how = "less accurate than" if cell.gap < 0 else "more accurate than"
    if _is_near(row, name, table):
        how = "as accurate as"
    return f"On retained held-out samples it is {how} the retrained models ({signed(cell.gap)})."


def _cost(row: Row) -> str:
    if row.seconds is None or row.cost is None:
        return ""
    share = f"{percent(row.cost.value)} of the {row.cost.clock} time of retraining"
    return f"It took {row.seconds:.1f} s, and {share}."
