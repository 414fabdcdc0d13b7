"""The table that opens a page: a line for each model or score, and an answer to each question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eigenforget.report.findings import enumerated
from eigenforget.report.verdict import QuestionAnswer, Verdict

_NAMED = 4
"""Models that a next step names before it counts the others."""


class GridRow(NamedTuple):
    """A line of the table.

    Attributes:
        name: Of the model or the score.
        style: The class of the line: the slug of a verdict, which colours its edge.
        note: What is said of it, beneath its name.
        cells: The answers, or plain words.
        tag: A term of the glossary that says what kind of model it is; "" for none.
    """

    name: str
    style: str
    note: str
    cells: Sequence[QuestionAnswer | str]
    tag: str = ""


def verdict_row(verdict: Verdict) -> GridRow:
    """The line of a model."""
    before = verdict.role == "original"
    cost = "–" if before else verdict.cost.words
    return GridRow(
        verdict.model,
        verdict.slug,
        "before unlearning" if before else verdict.outcome,
        (verdict.forgot, verdict.kept, cost),
        "control" if verdict.role == "control" else "",
    )


def next_steps(steps: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What to do next, each with the models that it is for, in a sentence.

    Args:
        steps: Pairs of a model and what to do with it.
    """
    found: dict[str, list[str]] = {}
    for model, step in steps:
        found.setdefault(step, []).append(model)
    return {step: enumerated(models, _NAMED) for step, models in found.items()}
