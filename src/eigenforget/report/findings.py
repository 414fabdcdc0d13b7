"""What a check looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.table import Row, Table, build, evaluated

Severity = Literal["error", "warning", "note"]
Status = Literal["found", "passed", "not_applicable"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

NO_MODEL = "no unlearned model is among the records"
NO_RETRAINED = "no retrained model is among the records"

_NAMED = 8
"""Parts that a sentence lists before it counts the rest."""


class Case(NamedTuple):
    """records: all that were given, corrected ones too. models: the evaluate records in force, in
    the order of the table.
    """

    records: tuple[RunRecord, ...]
    models: tuple[RunRecord, ...]
    table: Table

    @property
    def judged(self) -> list[Row]:
        """The unlearned models that have scores; negative controls are no part of it."""
        return [row for row in self.table.rows if row.role == "unlearned" and row.status == "ok"]

    @property
    def shown(self) -> list[Row]:
        """The unlearned models and the controls that have scores."""
        return [
            row
            for row in self.table.rows
            if row.role in ("unlearned", "control") and row.status == "ok"
        ]

    def of(self, *roles: str) -> list[RunRecord]:
        """The models of these roles that have scores."""
        return [r for r in self.models if r.role in roles and r.outcome.status == "ok"]


class Finding(NamedTuple):
    """status, the models that it is about, what was seen (or why nothing could be), and a severity
    other than the check's own.
    """

    status: Status
    models: tuple[str, ...]
    explanation: str
    severity: Severity | None = None


def case_of(records: Sequence[RunRecord]) -> Case:
    """Errors: RecordError when no evaluate record is among them, or two share a name."""
    return Case(tuple(records), tuple(evaluated(records)), build(records))


def found(
    explanation: str, models: Iterable[str] = (), severity: Severity | None = None
) -> Finding:
    return Finding("found", tuple(models), explanation, severity)


def passed(explanation: str) -> Finding:
    return Finding("passed", (), explanation)


def not_applicable(reason: str) -> Finding:
    return Finding("not_applicable", (), reason)


def named(row: Row) -> str:
    """The model's name, which says so where it is a control."""
    return f"{row.model} (control)" if row.role == "control" else row.model


def only_controls(rows: Sequence[Row]) -> bool:
    return all(row.role == "control" for row in rows)


def some(parts: Sequence[str], limit: int = _NAMED) -> str:
    """The parts as a list in prose, the first `limit` by name and the others as a count."""
    shown = list(parts) if len(parts) <= limit else [*parts[:limit], f"{len(parts) - limit} more"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def whole(record: RunRecord, where: str, value: object) -> int:
    """A count in a record's free fields. Errors: RecordError that names the record and the field."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RecordError(
            f"record {record.name!r}: {where} must be a whole number from 0, got {str(value)[:40]!r}"
        )
    return value
