"""Requirements on scores, for pipelines that stop where one does not hold: `lp_gap<=band`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from eigenforget.core.text import counted, suggested
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.escaping import flattened
from eigenforget.report.glossary import NAMES
from eigenforget.report.table import Row, Table, build
from eigenforget.report.verdict import OUTCOMES, QuestionAnswer, Verdict, verdicts

ALIASES = {
    "forget": "forget_accuracy",
    "retain": "retain_accuracy",
    "test_forget": "test_forget_accuracy",
    "test_retain": "test_retain_accuracy",
    "mia": "mia_auc",
    "rmia": "rmia_auc",
    "lp": "lp_forget",
    "lp_few": "lp_few_forget",
    "ncm": "ncm_forget",
    "f1": "cluster_f1",
    "relearn": "relearn_all_auc",
}
"""Short names that requirements and exports take for scores."""

TOLERANCE = 1e-9
"""Numbers this close are equal, and so is a gap at the end of the band: 0.892 − 0.912 is not quite
−0.02 in binary."""

Quantity = Literal["value", "gap", "units", "verdict", "forgot", "kept", "cost"]
_ANSWERS: dict[str, tuple[str, ...]] = {
    "verdict": tuple(OUTCOMES),
    "forgot": ("yes", "no", "cannot-tell"),
    "kept": ("yes", "no", "cannot-tell"),
}
"""What is required of a verdict and of its questions; the cost is a number."""

_NEAR = 0.7
"""Least similarity of a name that is suggested: among many short names, foo is like forgot."""

_FORM = re.compile(r"([^\s<>=]+)\s*(<=|>=|==|<|>)\s*([^\s<>=]+)")
_SHOWN = "NAME OP VALUE, as in verdict==like-retrained, forgot==yes, cost<=0.1 or lp_gap<=band"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda gap, slack: gap <= slack,
    ">=": lambda gap, slack: gap >= -slack,
    "<": lambda gap, slack: gap < -slack,
    ">": lambda gap, slack: gap > slack,
    "==": lambda gap, slack: abs(gap) <= slack,
}


class Requirement(NamedTuple):
    """A parsed requirement.

    Attributes:
        text: As it was given.
        score: The score; "" for the verdict, its questions and the cost.
        quantity: What of the score is compared.
        operator: How.
        bound: With what: a number, "band" or an answer.
    """

    text: str
    score: str
    quantity: Quantity
    operator: str
    bound: float | str


class RequirementResult(NamedTuple):
    """What a requirement says of a model.

    Attributes:
        model: The model.
        requirement: The requirement.
        holds: Whether the model meets it; False also where that cannot be said.
        words: What was seen; where it does not hold, what was required or why there is no answer.
    """

    model: str
    requirement: Requirement
    holds: bool
    words: str

    @property
    def line(self) -> str:
        """One line for a log; names that others chose cannot begin another."""
        answer = "holds" if self.holds else "fails"
        return flattened(f"{self.model}: {self.requirement.text} {answer}: {self.words}")


class _Observation(NamedTuple):
    """What a model has. Where number is None it cannot be said, and words is the reason."""

    number: float | None
    words: str


def parse_requirement(text: str, known: Iterable[str] = ()) -> Requirement:
    """Reads a requirement NAME OP VALUE, such as `verdict==like-retrained` or `lp_gap<=band`.

    Args:
        text: NAME is a score or its alias. NAME_gap is the signed gap to the mean of the retrained
            models, and NAME_units that gap in half-widths of their band. At a further layer it is
            NAME@LAYER or NAME_gap@LAYER. NAME may also be verdict, forgot, kept, or cost, the share
            of the cost of retraining. OP is <=, >=, <, > or ==. VALUE is a finite number. For a gap
            it may be band, which compares |gap| with the half-width of the band. For the verdict it
            is like-retrained, still-remembers, damaged or cannot-tell; for forgot and kept it is
            yes, no or cannot-tell.
        known: Scores besides those of the glossary, as of the records that are judged.

    Raises:
        RecordError: The text is no requirement; for an unknown score it has names that are near.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise RecordError(f"requirement {text!r} is not {_SHOWN}")
    name, operator, value = found.groups()
    if name in _ANSWERS:
        if operator != "==" or value not in _ANSWERS[name]:
            raise RecordError(
                f"requirement {text!r}: {name} takes == and one of {', '.join(_ANSWERS[name])}"
            )
        return Requirement(text.strip(), "", name, operator, value)  # type: ignore[arg-type]
    if name == "cost":
        return Requirement(text.strip(), "", "cost", operator, _number(value, text))
    score, quantity = _quantity(name, text, set(known))
    if value != "band":
        return Requirement(text.strip(), score, quantity, operator, _number(value, text))
    if quantity != "gap" or operator not in ("<=", "<"):
        raise RecordError(
            f"requirement {text!r}: the band is compared with a gap by <= or <, as in lp_gap<=band"
        )
    return Requirement(text.strip(), score, quantity, operator, value)


def judge_records(
    requirements: Sequence[Requirement], records: Sequence[RunRecord]
) -> list[RequirementResult]:
    """Judges each requirement for each unlearned model (not the controls), model by model.

    What cannot be judged does not hold.

    Raises:
        RecordError: No unlearned model is among the records, or they make no table (table.build).
    """
    table = build(records)
    rows = table.of_role("unlearned")
    if not rows:
        raise RecordError("no unlearned model is among the records: no requirement can be judged")
    said = {v.model: v for v in verdicts(table)}
    return [
        _judged(requirement, row, table, said[row.model])
        for row in rows
        for requirement in requirements
    ]


def verdict_lines(records: Sequence[RunRecord]) -> list[str]:
    """A line with the verdict of each unlearned model, for the same log."""
    return [flattened(v.line) for v in verdicts(build(records)) if v.role == "unlearned"]


def _quantity(name: str, text: str, known: set[str]) -> tuple[str, Quantity]:
    if name in known:
        return name, "value"
    stem, at, layer = name.partition("@")
    quantity: Quantity = (
        "gap" if stem.endswith("_gap") else "units" if stem.endswith("_units") else "value"
    )
    stem = stem if quantity == "value" else stem.removesuffix(f"_{quantity}")
    score = ALIASES.get(stem, stem)
    if score in NAMES or f"{score}{at}{layer}" in known:
        return f"{score}{at}{layer}", quantity
    every = dict.fromkeys([*_ANSWERS, "cost", *NAMES, *ALIASES, *known])
    cure = (
        suggested(stem, every, most=3, least=_NEAR)
        or f"; scores by their short names: {', '.join(ALIASES)}"
    )
    raise RecordError(f"requirement {text!r} names the unknown score {stem!r}{cure}")


def _number(value: str, text: str) -> float:
    try:
        bound = float(value) if "_" not in value else math.nan
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise RecordError(
            f"requirement {text!r}: {value!r} is neither a finite number nor the word band"
        )
    return bound


def _judged(
    requirement: Requirement, row: Row, table: Table, verdict: Verdict
) -> RequirementResult:
    if requirement.quantity in _ANSWERS:
        seen_answer, words = _answer(requirement.quantity, verdict)
        holds = seen_answer == requirement.bound
        return RequirementResult(
            row.model,
            requirement,
            holds,
            words if holds else f"{words}; required is {requirement.bound}",
        )
    seen = _observed(requirement, row, table)
    if seen.number is None:
        return RequirementResult(
            row.model, requirement, False, f"it cannot be judged, as {seen.words}"
        )
    if isinstance(requirement.bound, str):
        bound, what = 1.0, f"|gap| {requirement.operator} the half-width of the band"
    else:
        bound, what = requirement.bound, f"{requirement.operator} {requirement.bound!r}"
    holds = _COMPARE[requirement.operator](seen.number - bound, TOLERANCE * max(1.0, abs(bound)))
    return RequirementResult(
        row.model, requirement, holds, seen.words if holds else f"{seen.words}; required is {what}"
    )


def _answer(quantity: Quantity, verdict: Verdict) -> tuple[str, str]:
    """The answer in the words of requirements, and what was seen."""
    if quantity == "verdict":
        return verdict.slug, f"it is {verdict.slug}"
    found: QuestionAnswer = verdict.forgot if quantity == "forgot" else verdict.kept
    return found.slug, f"the answer is {found.words}"


def _observed(requirement: Requirement, row: Row, table: Table) -> _Observation:
    """The number that is compared with the bound.

    Beside the band that is |gap| in its half-widths, as the report judges.
    """
    if requirement.quantity == "cost":
        share = row.share
        if share is None:
            return _Observation(None, "its cost or that of retraining is unknown")
        return _Observation(share, f"it is {share:.6g} of the cost of retraining")
    cell = row.cells.get(requirement.score)
    if cell is None or cell.value is None:
        return _Observation(None, _no_value(row, "" if cell is None else cell.reason))
    if requirement.quantity == "value":
        return _Observation(cell.value, f"it is {cell.value!r}")
    if cell.gap is None:
        return _Observation(None, "no retrained model has this score")
    oracles = table.oracles[requirement.score]
    if requirement.quantity == "gap" and requirement.bound != "band":
        return _Observation(cell.gap, f"the gap is {cell.gap:+.6g}")
    if cell.units is None or oracles.band is None:
        make = counted(oracles.models, "retrained model makes", "retrained models make")
        return _Observation(None, f"{make} no band")
    if requirement.quantity == "units":
        return _Observation(cell.units, f"the gap is {cell.units:+.6g} half-widths of the band")
    return _Observation(
        abs(cell.units),
        f"the gap is {cell.gap:+.6g} and the half-width of the band {oracles.band.half:.6g}",
    )


def _no_value(row: Row, reason: str) -> str:
    if row.status != "ok":
        return f"the model has no result: {row.status}, {row.reason}"
    return f"the score does not apply: {reason}" if reason else "the score was not measured"
