"""Checks with stable codes: what to know before quoting these records (docs/checks.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from eigenforget.record import RunRecord
from eigenforget.report import check_evidence as evidence
from eigenforget.report import check_models as models
from eigenforget.report.findings import SEVERITIES, Case, Rule, Severity, case_of


class Check(NamedTuple):
    """A check's answer: its rule and its finding, with the severity that holds here."""

    code: str
    title: str
    severity: Severity
    status: Literal["found", "passed", "not_applicable"]
    models: tuple[str, ...]
    explanation: str
    action: str


RULES: tuple[Rule, ...] = (
    evidence.oracles,
    evidence.training_seeds,
    evidence.attack_size,
    models.retained_accuracy,
    evidence.near_duplicate_pairs,
    models.outputs_without_features,
    models.over_forgetting,
    models.original_weights,
    models.no_result,
    models.controls,
    evidence.mixed,
    models.cost,
    models.relearning,
    evidence.signal,
    evidence.corrected,
    evidence.measures,
    models.trained_on,
    evidence.surroundings,
)


def checks(records: Sequence[RunRecord]) -> list[Check]:
    """One check per code, in their order, from records alone.

    Raises:
        RecordError: No evaluate record is among them, two share a name, or a field that a check
            reads is malformed.
    """
    case = case_of(records)
    return [_checked(rule, case) for rule in RULES]


def by_severity(made: Sequence[Check]) -> list[Check]:
    """The checks that found something, errors first, each severity by code."""
    found = (c for c in made if c.status == "found")
    return sorted(found, key=lambda c: SEVERITIES.index(c.severity))


def _checked(rule: Rule, case: Case) -> Check:
    status, names, explanation, severity = rule.look(case)
    return Check(
        rule.code, rule.title, severity or rule.severity, status, names, explanation, rule.action
    )
