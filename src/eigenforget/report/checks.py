"""What a reader of these records should know before quoting them: checks with stable codes,
explained in docs/checks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eigenforget.record import RunRecord
from eigenforget.report import check_evidence as evidence
from eigenforget.report import check_models as models
from eigenforget.report.findings import SEVERITIES, Case, Finding, Severity, Status, case_of


class Check(NamedTuple):
    """A check's answer.

    status: "found": what the check looks for is there; "passed": it is not; "not_applicable": the
    records cannot say, and explanation is the reason. severity: how bad it is where it is found.
    models: those that it is about; empty: all. action: what to do.
    """

    code: str
    title: str
    severity: Severity
    status: Status
    models: tuple[str, ...]
    explanation: str
    action: str


class Rule(NamedTuple):
    """A code and what it means never change; title, words and thresholds may."""

    code: str
    title: str
    severity: Severity
    look: Callable[[Case], Finding]
    action: str


RULES = (
    Rule(
        "EF001",
        "Too few retrained models",
        "error",
        evidence.oracles,
        "Retrain at least three models without the forgotten data, from other seeds, and evaluate again with --oracle for each.",
    ),
    Rule(
        "EF002",
        "One training seed only",
        "note",
        evidence.training_seeds,
        "Before you compare methods, repeat with originals of two or more other seeds and report the spread.",
    ),
    Rule(
        "EF003",
        "Membership attack on too few samples",
        "warning",
        evidence.attack_size,
        "Do not quote these numbers as evidence that nothing is found. Use a larger held-out set; a request this small is judged by"
        " accuracy and relearning.",
    ),
    Rule(
        "EF004",
        "Accuracy on what is kept fell",
        "warning",
        models.retained_accuracy,
        "Do not use the model before this is accepted. Train longer on retained data, or take a gentler setting or another method.",
    ),
    Rule(
        "EF005",
        "Forgotten samples have twins among the retained",
        "warning",
        evidence.twins,
        "Look at the pairs. Where both show the same thing, put the retained one into the request as well and unlearn again.",
    ),
    Rule(
        "EF006",
        "Outputs pass, features do not",
        "error",
        models.outputs_without_features,
        "Do not call it forgotten: its outputs deny what its features still hold. Take a method that changes the features, or retrain.",
    ),
    Rule(
        "EF007",
        "Over-forgetting",
        "warning",
        models.over_forgetting,
        "Stop earlier, or take a smaller learning rate: being unlike any retrained model gives the forgotten away too.",
    ),
    Rule(
        "EF008",
        "The original's weights are still in the file",
        "warning",
        models.original_weights,
        "Do not hand the file on where the original's knowledge must not leave with it. Take a method that changes all layers, or retrain.",
    ),
    Rule(
        "EF009",
        "A run was refused or failed",
        "warning",
        models.no_result,
        "Read the reason. A refused method needs what the reason names; a failed one most often a smaller learning rate.",
    ),
    Rule(
        "EF010",
        "A negative control is among the models",
        "note",
        models.controls,
        "Never quote a control as a result. It shows what a measure lets pass.",
    ),
    Rule(
        "EF011",
        "Other data, split or layers",
        "error",
        evidence.mixed,
        "Do not compare these models. Evaluate them all in one run, or report those that belong together.",
    ),
    Rule(
        "EF012",
        "More than half the cost of retraining",
        "warning",
        models.cost,
        "Compare with retraining, which is exact. Unlearning pays where it is much cheaper or comes more often.",
    ),
    Rule(
        "EF013",
        "It relearns faster than retrained models",
        "warning",
        models.relearning,
        "Treat the model as one that still holds a part of the forgotten. Take a method that changes the features more, or retrain.",
    ),
    Rule(
        "EF014",
        "A measure without a signal",
        "note",
        evidence.signal,
        "Do not quote these metrics as evidence for or against forgetting. Judge by those that tell original and retrained models apart.",
    ),
    Rule(
        "EF015",
        "Corrected records",
        "note",
        evidence.corrected,
        "Read both records, and quote the later one.",
    ),
    Rule(
        "EF016",
        "A kind of measure is missing",
        "warning",
        evidence.measures,
        "Evaluate again without --skip, or say beside the result what was not measured.",
    ),
    Rule(
        "EF017",
        "A score that the method trains on",
        "note",
        models.trained_on,
        "Do not quote this score as evidence for the method. The headline counts it only where it speaks against it.",
    ),
    Rule(
        "EF018",
        "Different versions or devices",
        "note",
        evidence.surroundings,
        "Differences of a thousandth may come from this. Evaluate all models in one run where that matters.",
    ),
)


def checks(records: Sequence[RunRecord]) -> list[Check]:
    """One check per code, in their order, from records alone.

    Errors: RecordError when no evaluate record is among them, two share a name, or a field that a
    check reads is malformed.
    """
    case = case_of(records)
    return [_checked(rule, rule.look(case)) for rule in RULES]


def by_severity(made: Sequence[Check]) -> list[Check]:
    """Those that were found, errors first, each kind by its code."""
    return sorted(
        (c for c in made if c.status == "found"), key=lambda c: SEVERITIES.index(c.severity)
    )


def _checked(rule: Rule, finding: Finding) -> Check:
    severity = finding.severity or rule.severity
    return Check(
        rule.code,
        rule.title,
        severity,
        finding.status,
        finding.models,
        finding.explanation,
        rule.action,
    )
