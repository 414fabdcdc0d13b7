"""What a check is, what it looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from eigenforget.core.text import joined
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.decision import Decision
from eigenforget.report.table import Row, Table, build, evaluated
from eigenforget.report.verdict import decision_on

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

NO_MODEL = "no unlearned model is among the records"
NO_RETRAINED = "no retrained model is among the records"


class StudyRecords(NamedTuple):
    """The records of a study, which a check looks at.

    Attributes:
        records: All records that were given, corrected ones too.
        models: The evaluate records in force, in the order of the table.
        table: The table of these models.
        decisions: What the decision scores say of each model of `shown`, by name.
    """

    records: tuple[RunRecord, ...]
    models: tuple[RunRecord, ...]
    table: Table
    decisions: Mapping[str, Decision]

    @property
    def judged(self) -> list[Row]:
        """The unlearned models that have scores, without controls."""
        return [row for row in self.shown if row.role == "unlearned"]

    @property
    def shown(self) -> list[Row]:
        """The unlearned models and the controls that have scores."""
        return [row for row in self.table.rows if row.model in self.decisions]

    def of(self, *roles: str) -> list[RunRecord]:
        """The models of these roles that have scores."""
        return [r for r in self.models if r.role in roles and r.outcome.status == "ok"]


class Finding(NamedTuple):
    """The answer of a check.

    Attributes:
        status: "found": what the check looks for is there; "passed": it is not; "not_applicable":
            the records cannot say.
        models: The models that it is about; empty: all.
        explanation: What was seen, or why nothing could be.
        severity: The severity where it is not the check's own.
    """

    status: Literal["found", "passed", "not_applicable"]
    models: tuple[str, ...]
    explanation: str
    severity: Severity | None = None


class Rule(NamedTuple):
    """A check. Its code and what it means never change; title, words and thresholds may.

    Attributes:
        code: Its stable code.
        title: What is wrong where it finds something.
        severity: How bad that is.
        action: What to do then.
        look: Looks at the records of a study.
    """

    code: str
    title: str
    severity: Severity
    action: str
    look: Callable[[StudyRecords], Finding]


def rule(
    code: str, title: str, severity: Severity, *, action: str
) -> Callable[[Callable[[StudyRecords], Finding]], Rule]:
    """Makes a check of the function that looks."""
    return lambda look: Rule(code, title, severity, action, look)


def study_records(records: Sequence[RunRecord]) -> StudyRecords:
    """What a check sees of these records.

    Raises:
        RecordError: No evaluate record is among them, or two share a name.
    """
    table = build(records)
    decisions = {
        row.model: decision_on(row, table)
        for row in table.of_role("unlearned", "control")
        if row.has_result
    }
    return StudyRecords(tuple(records), tuple(evaluated(records)), table, decisions)


def found(
    explanation: str, models: Iterable[str] = (), severity: Severity | None = None
) -> Finding:
    """What the check looks for is there."""
    return Finding("found", tuple(models), explanation, severity)


def passed(explanation: str) -> Finding:
    """What the check looks for is not there."""
    return Finding("passed", (), explanation)


def not_applicable(reason: str) -> Finding:
    """The records cannot say."""
    return Finding("not_applicable", (), reason)


def enumerated(parts: Sequence[str], limit: int = 8) -> str:
    """The parts as in a sentence: the first `limit` by name, the others as a count."""
    more = [f"{len(parts) - limit} more"] if len(parts) > limit else []
    return joined([*parts[:limit], *more])


def count_in(record: RunRecord, where: str, value: object) -> int:
    """A count in one of a record's free fields.

    Raises:
        RecordError: It is no whole number from 0; the message names the record and the field.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RecordError(
            f"record {record.name!r}: {where} must be a whole number from 0, "
            f"got {str(value)[:40]!r}"
        )
    return value
