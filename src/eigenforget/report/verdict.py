"""What the scores say of each model: did it forget, did it keep, what did it cost?"""

from __future__ import annotations

from collections import Counter
from textwrap import fill
from typing import Literal, NamedTuple

from eigenforget.core.text import joined
from eigenforget.report.cost import Share
from eigenforget.report.decision import (
    FEW_SCORES,
    UNMEASURED,
    Answer,
    ComparisonScores,
    Decision,
    DecisionScore,
    Estimate,
    YesNo,
    decide,
)
from eigenforget.report.glossary import label
from eigenforget.report.table import Row, Table, number, percent

VerdictOutcome = Literal["like a retrained model", "still remembers", "damaged", "cannot tell"]
Sign = Literal["✓", "✗", "?"]

OUTCOMES: dict[str, VerdictOutcome] = {
    "like-retrained": "like a retrained model",
    "still-remembers": "still remembers",
    "damaged": "damaged",
    "cannot-tell": "cannot tell",
}
"""What a verdict ends in, by the words of requirements and exports."""

QUESTIONS = ("Did it forget?", "Did it keep?", "What did it cost?")

WORTHWHILE = 0.5
"""Share of the cost of retraining above which unlearning has not paid."""

_COLUMNS = 96
"""Width of a verdict that is printed."""
_NAMED = 3
"""Scores that an answer names before it counts the others."""

_SIGNS: dict[str, Sign] = {"yes": "✓", "no": "✗", "cannot tell": "?"}
_NEXT: dict[VerdictOutcome, str] = {
    "like a retrained model": "May stand in for a retrained model, by these scores. Read the checks"
    " before release.",
    "still remembers": "Do not release as forgotten. Unlearn longer, choose another method, or"
    " retrain.",
    "damaged": "Do not use. Take smaller steps, use more of the retain set, or choose another"
    " method.",
    "cannot tell": "Do not claim forgetting.",
}
"""What to do next: one sentence that fits one model and several."""


class QuestionAnswer(NamedTuple):
    """The answer to one of QUESTIONS.

    Attributes:
        answer: "yes", "no" or "cannot tell"; for the cost "yes" is at most WORTHWHILE.
        words: The answer with its reason, in a short clause.
        scores: The scores that it rests on.
    """

    answer: YesNo
    words: str
    scores: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The answer as one word, for requirements and styles."""
        return self.answer.replace(" ", "-")

    @property
    def sign(self) -> Sign:
        """A check mark, a cross, or a question mark."""
        return _SIGNS[self.answer]


class Verdict(NamedTuple):
    """What is said of a model.

    Attributes:
        model: Its name.
        role: What it is.
        outcome: What follows from the first two answers.
        forgot: Did it forget what a retrained model does not know?
        kept: Did it keep what a retrained model knows?
        cost: Did it cost at most WORTHWHILE, as a share of retraining?
        next_step: What to do then.
        scores: The scores that decide, each beside the retrained models and the original.
        missing: Decision scores that were not measured.
    """

    model: str
    role: str
    outcome: VerdictOutcome
    forgot: QuestionAnswer
    kept: QuestionAnswer
    cost: QuestionAnswer
    next_step: str
    scores: tuple[DecisionScore, ...] = ()
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = (self.line, *self.sentences)
        return "\n".join(fill(line, _COLUMNS, subsequent_indent="  ") for line in lines)

    @property
    def slug(self) -> str:
        """The outcome in the words of OUTCOMES."""
        return next(slug for slug, outcome in OUTCOMES.items() if outcome == self.outcome)

    @property
    def answers(self) -> tuple[QuestionAnswer, QuestionAnswer, QuestionAnswer]:
        """In the order of QUESTIONS."""
        return self.forgot, self.kept, self.cost

    @property
    def line(self) -> str:
        """The verdict in one line."""
        return (
            f"{self.model}: {self.outcome} (forgot: {self.forgot.answer}, kept: "
            f"{self.kept.answer}, cost: {self.cost.words})"
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """The three answers with their reasons, and what to do next."""
        said = zip(QUESTIONS, self.answers, strict=True)
        return (*(f"{question} {_capital(a.words)}." for question, a in said), self.next_step)


def verdicts(table: Table) -> list[Verdict]:
    """One verdict for each unlearned model and control, in the order of the table."""
    return [verdict_on(row, table) for row in table.of_role("unlearned", "control")]


def verdict_on(row: Row, table: Table) -> Verdict:
    """The verdict on any model; a retrained one is held against the others."""
    cost = _cost(row.cost)
    if not row.has_result:
        why = f"{row.status}: {row.reason}"
        none = QuestionAnswer("cannot tell", why)
        step = f"There is no model to judge ({why})."
        return Verdict(row.model, row.role, "cannot tell", none, none, cost, step)
    found = decision_on(row, table)
    outcome = outcome_of(found)
    return Verdict(
        row.model,
        row.role,
        outcome,
        _forgot(found, row, table),
        _kept(found, table),
        cost,
        " ".join(s for s in (_NEXT[outcome], _how_to_tell(found, outcome)) if s),
        found.scores,
        found.missing,
    )


def decision_on(row: Row, table: Table) -> Decision:
    """The decision on a model of the table, beside its retrained models and originals."""
    oracles = [r for r in table.of_role("oracle") if r.has_result and r is not row]
    return decide(
        _estimates(row),
        ComparisonScores(
            "class" if table.forgets_classes else "samples",
            [_estimates(r) for r in oracles],
            [_estimates(r) for r in table.of_role("original") if r.has_result],
            {c.name: c.range for c in table.columns},
        ),
        trained_on=row.optimises,
    )


def outcome_of(found: Decision) -> VerdictOutcome:
    """What follows from both answers; traces of the forget set come before damage."""
    if found.forgot.answer == "no":
        return "still remembers"
    if found.kept.answer == "no":
        return "damaged"
    both = {found.forgot.answer, found.kept.answer}
    return "like a retrained model" if both == {"yes"} else "cannot tell"


def separates(metric: str, table: Table) -> bool | None:
    """Whether the band of the retrained models separates the originals' mean from them.

    None: there is no band or no original.
    """
    oracles = table.oracles.get(metric)
    if oracles is None or oracles.band is None or metric not in table.original:
        return None
    return abs(table.original[metric] - oracles.band.mean) > oracles.band.half


def beside_oracles(score: DecisionScore) -> str:
    """A score of the decision in words: its name, its value, and that of the retrained models."""
    return f"{label(score.name)} {number(score.value)} (retrained {number(score.oracles)})"


def limits(table: Table) -> list[str]:
    """What cannot be said, or only with care, because models to compare with are missing."""
    oracles = sum(row.has_result for row in table.of_role("oracle"))
    said = []
    if not table.oracles:
        said.append(
            "There is no retrained model among these records, so nobody can say whether a model is"
            " like one that never saw the forget set."
        )
    elif oracles == 1:
        said.append(
            "There is only one retrained model. It does not show how much retrained models differ,"
            " so no model can be called like one."
        )
    elif oracles == 2:
        said.append(
            "There are only two retrained models. Small differences cannot be told from chance."
        )
    if not table.original:
        said.append(
            "There is no original model among these records, so nobody can say which scores could"
            " have told it."
        )
    return said


def _estimates(row: Row) -> dict[str, Estimate]:
    return {
        name: Estimate(cell.value, cell.low, cell.high)
        for name, cell in row.cells.items()
        if cell.value is not None
    }


def _forgot(found: Decision, row: Row, table: Table) -> QuestionAnswer:
    answer = found.forgot
    if answer.answer == "no":
        return QuestionAnswer("no", f"no, {_values(answer, found)}", answer.scores)
    if answer.answer == "yes":
        names = joined([label(name, table) for name in answer.scores])
        words = f"yes: {_no_trace(found)}; these tell the original apart: {names}"
        return QuestionAnswer("yes", words, answer.scores)
    if answer.reason in (FEW_SCORES, UNMEASURED) and (why := _why_missing(found, row)):
        return _cannot_tell(answer._replace(reason=f"{answer.reason} ({why})"), table)
    return _cannot_tell(answer, table)


def _no_trace(found: Decision) -> str:
    """That no score shows a trace, and which lie off retrained models as the original does."""
    off = [beside_oracles(s) for s in found.scores if s.position == "like the original"]
    if not off:
        return "no score tells it from retrained models"
    verb = "lies" if len(off) == 1 else "lie"
    return f"no score shows a trace; {joined(off)} {verb} off on the other side, as in the original"


def _why_missing(found: Decision, row: Row) -> str:
    """The reason that most scores of the decision give for having no value; "" for none."""
    asked = found.forgot.scores or found.missing
    reasons = [row.cells[name].reason for name in asked if name in row.cells]
    said = Counter(reason for reason in reasons if reason)
    return said.most_common(1)[0][0] if said else ""


def _kept(found: Decision, table: Table) -> QuestionAnswer:
    answer = found.kept
    if answer.answer == "yes":
        return QuestionAnswer("yes", "yes: as much as retrained models", answer.scores)
    if answer.answer == "no":
        over = {s.name for s in found.scores if s.position == "over-forgotten"}
        why = "more is gone than retraining removes: " if over.issuperset(answer.scores) else ""
        return QuestionAnswer("no", f"no, {why}{_values(answer, found)}", answer.scores)
    return _cannot_tell(answer, table)


def _cannot_tell(answer: Answer, table: Table) -> QuestionAnswer:
    names = joined([label(name, table) for name in answer.scores])
    reason = f"{answer.reason} ({names})" if names else answer.reason
    return QuestionAnswer("cannot tell", f"cannot tell: {reason}", answer.scores)


def _values(answer: Answer, found: Decision) -> str:
    """The scores with their values, the farthest first."""
    farthest = sorted(
        (s for s in found.scores if s.name in answer.scores), key=lambda s: -abs(s.gap / s.limit)
    )
    named = [beside_oracles(s) for s in farthest[:_NAMED]]
    more = len(farthest) - _NAMED
    return joined([*named, *([f"{more} more"] if more > 0 else [])])


def _how_to_tell(found: Decision, outcome: VerdictOutcome) -> str:
    """What would settle a verdict that cannot be told."""
    if outcome != "cannot tell":
        return ""
    if found.unfit:
        return "Train the retrained models as the original was trained, and evaluate again."
    if found.forgot.reason in (FEW_SCORES, UNMEASURED):
        return "Measure more: without --skip, and with the samples that the scores say they need."
    if not found.scores:
        return "Retrain at least three models without the forget set and evaluate again."
    alike = not any(s.separates for s in found.scores) and found.forgot.answer == "cannot tell"
    return (
        "Here even the original cannot be told from retrained models: more of these, or more"
        " held-out samples, would show smaller differences."
        if alike
        else "More retrained models, or more held-out samples, would show smaller differences."
    )


def _cost(share: Share | None) -> QuestionAnswer:
    if share is None:
        return QuestionAnswer("cannot tell", "unknown")
    words = f"{percent(share.value)} of retraining"
    return QuestionAnswer("yes" if share.value <= WORTHWHILE else "no", words)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
