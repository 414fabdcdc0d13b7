"""The table of a report: one row per evaluated model, one column per score, and the gap to the retrained models."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.record import RecordError, RunRecord, ScoreRow, in_force, write_text
from eigenforget.record.schema import Better, Role, Status

OUTPUT_METRICS = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy", "mia_auc")
FEATURE_METRICS = ("da", "lp_forget", "nmi", "cluster_f1")
CSV_COLUMNS = ("model", *OUTPUT_METRICS, *FEATURE_METRICS, "seconds")

_ROLE_ORDER: tuple[Role, ...] = ("original", "oracle", "unlearned", "control")


class Column(NamedTuple):
    name: str
    unit: str
    better: Better
    range: tuple[float | None, float | None]


class Cell(NamedTuple):
    """A score. gap = value − mean of the retrained models; None for these themselves and where there are none."""

    value: float | None
    low: float | None
    high: float | None
    gap: float | None
    reason: str


class Row(NamedTuple):
    """A model. seconds is None unless the run was ok; share = seconds / mean seconds of the retrained models."""

    model: str
    role: Role
    status: Status
    reason: str
    cells: dict[str, Cell]
    seconds: float | None
    share: float | None


class Reference(NamedTuple):
    """The retrained models' values of one score."""

    mean: float
    low: float
    high: float
    models: int

    @property
    def spread(self) -> float:
        return self.high - self.low


class Table(NamedTuple):
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference: dict[str, Reference]
    original: dict[str, float]


def evaluated(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The evaluate records that no later record corrects: original, retrained, unlearned, control.

    Errors: RecordError when two of them speak of a model of the same name, or there is none.
    """
    chosen = [r for r in in_force(records) if r.kind == "evaluate"]
    names = [r.name for r in chosen]
    for name in names:
        if names.count(name) > 1:
            raise RecordError(f"two evaluate records are named {name!r}; names are unique within a report")
    if not chosen:
        raise RecordError(f"no evaluate record among the {len(records)} records: there is nothing to report")
    return sorted(chosen, key=lambda r: _ROLE_ORDER.index(_role(r)))


def build(records: Sequence[RunRecord]) -> Table:
    """The table of the evaluate records among `records`. Known scores come first, in the order of CSV_COLUMNS."""
    chosen = evaluated(records)
    reference = _reference(chosen)
    seconds = _mean([r.outcome.seconds for r in chosen if r.role == "oracle" and r.outcome.status == "ok"])
    rows = tuple(_row(r, reference, seconds) for r in chosen)
    originals = [r for r in chosen if r.role == "original"]
    original = {c.name: _mean(_values(originals, c.name)) for c in _columns(chosen)}
    return Table(_columns(chosen), rows, reference, {k: v for k, v in original.items() if v is not None})


def write_csv(records: Sequence[RunRecord], path: str | Path) -> Path:
    """Writes the columns CSV_COLUMNS, one line per model, values in full precision, empty where not applicable."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in build(records).rows:
        values = [row.cells[name].value if name in row.cells else None for name in CSV_COLUMNS[1:-1]]
        writer.writerow([row.model, *("" if v is None else repr(v) for v in (*values, row.seconds))])
    return write_text(path, text.getvalue())


def number(value: float) -> str:
    """Three decimals, or three significant digits where three decimals would hide the value."""
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def signed(gap: float) -> str:
    """A gap with its sign; what rounds to nothing is +0.000, never -0.000."""
    return f"{round(gap, 3) + 0.0:+.3f}" if abs(gap) < 1000 else f"{gap:+.3g}"


def percent(share: float) -> str:
    """Whole percents from ten on, one decimal below."""
    return f"{share:.0%}" if abs(share) >= 0.0995 else f"{round(share, 3) + 0.0:.1%}"


def _row(record: RunRecord, reference: dict[str, Reference], oracle_seconds: float | None) -> Row:
    ok = record.outcome.status == "ok"
    seconds = record.outcome.seconds if ok else None
    share = seconds / oracle_seconds if seconds is not None and oracle_seconds else None
    cells = {s.name: _cell(s, None if record.role == "oracle" else reference.get(s.name)) for s in record.scores}
    return Row(record.name, _role(record), record.outcome.status, record.outcome.reason, cells, seconds, share)


def _cell(score: ScoreRow, reference: Reference | None) -> Cell:
    gap = None if score.value is None or reference is None else score.value - reference.mean
    return Cell(score.value, score.low, score.high, gap, score.reason)


def _columns(records: Sequence[RunRecord]) -> tuple[Column, ...]:
    found: dict[str, Column] = {}
    for record in records:
        for s in record.scores:
            column = found.setdefault(s.name, Column(s.name, s.unit, s.better, s.range))
            if (s.unit, s.better) != (column.unit, column.better):
                here, there = f"{s.unit!r}, {s.better}", f"{column.unit!r}, {column.better}"
                raise RecordError(f"score {s.name!r} is {here} in {record.name!r} and {there} elsewhere")
    known = [name for name in CSV_COLUMNS if name in found]
    return tuple(found[name] for name in (*known, *(n for n in found if n not in known)))


def _reference(records: Sequence[RunRecord]) -> dict[str, Reference]:
    oracles = [r for r in records if r.role == "oracle"]
    result = {}
    for column in _columns(records):
        values = _values(oracles, column.name)
        if values:
            result[column.name] = Reference(sum(values) / len(values), min(values), max(values), len(values))
    return result


def _values(records: Sequence[RunRecord], name: str) -> list[float]:
    return [s.value for r in records for s in r.scores if s.name == name and s.value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _role(record: RunRecord) -> Role:
    if record.role is None:
        raise RecordError(f"record {record.name!r} has no role")
    return record.role
