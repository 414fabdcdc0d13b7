"""Checks with stable codes: what to know before quoting these records (docs/checks.md)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Literal, NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import imported, of_entry_point
from eigenforget.core.spec import call_of
from eigenforget.core.text import displayed
from eigenforget.record import RunRecord
from eigenforget.report import check_evidence as evidence
from eigenforget.report import check_models as models
from eigenforget.report.findings import (
    SEVERITIES,
    Finding,
    Rule,
    Severity,
    StudyRecords,
    study_records,
)


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


GROUP = "eigenforget.checks"
"""Group of entry points by which other packages add rules."""


def checks(records: Sequence[RunRecord], own: Sequence[Rule | str] = ()) -> list[Check]:
    """One check per code, in their order, from records alone.

    Args:
        records: What is looked at.
        own: Further rules, see `all_rules`.

    Raises:
        RecordError: No evaluate record is among them, two share a name, or a field that a check
            reads is malformed.
        EigenforgetError: As in `all_rules`; or a rule gives no finding.
    """
    study = study_records(records)
    return [_checked(rule, study) for rule in all_rules(own)]


def all_rules(own: Sequence[Rule | str] = ()) -> list[Rule]:
    """The rules of this package, those that other packages declare, and one's own, in this order.

    Other packages declare theirs as entry points of the group `eigenforget.checks`.

    Args:
        own: Rules, or where one is, as in 'python(path="mine.py:service_level")'.

    Raises:
        EigenforgetError: There is no rule, or two have the same code.
    """
    points = entry_points(group=GROUP)
    declared = (_rule(of_entry_point(point, "check"), point.value) for point in points)
    found = [*RULES, *declared]
    found += [_rule_at(item) if isinstance(item, str) else item for item in own]
    codes = [rule.code for rule in found]
    for code in codes:
        if codes.count(code) > 1:
            raise EigenforgetError(f"two checks have the code {displayed(code)}; each has its own")
    return found


def _rule_at(text: str) -> Rule:
    name, fields = call_of(text, what="check")
    path = fields.get("path")
    if name != "python" or list(fields) != ["path"] or not isinstance(path, ast.Constant):
        raise EigenforgetError(
            f"check {displayed(text)}: a check of your own is python(path='mine.py:service_level')"
        )
    where: Any = path.value
    return _rule(imported(where, "check"), where)


def _rule(found: Any, path: Any) -> Rule:
    if not isinstance(found, Rule):
        raise EigenforgetError(
            f"check {displayed(path)} is no check; eigenforget.report.findings.rule makes one of a "
            "function"
        )
    return found


def by_severity(made: Sequence[Check]) -> list[Check]:
    """The checks that found something, errors first, each severity by code."""
    found = (c for c in made if c.status == "found")
    return sorted(found, key=lambda c: SEVERITIES.index(c.severity))


def _checked(rule: Rule, study: StudyRecords) -> Check:
    finding = rule.look(study)
    if not isinstance(finding, Finding):
        raise EigenforgetError(
            f"check {rule.code} gave {displayed(finding)}, no finding: found(…), passed(…) or "
            "not_applicable(…) of eigenforget.report.findings makes one"
        )
    status, names, explanation, severity = finding
    return Check(
        rule.code, rule.title, severity or rule.severity, status, names, explanation, rule.action
    )
