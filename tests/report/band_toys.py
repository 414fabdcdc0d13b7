"""An original, three retrained models and one unlearned model with one score."""

from __future__ import annotations

from typing import Any

from eigenforget.record import (
    Outcome,
    RunRecord,
    ScoreRow,
)
from eigenforget.report import table

FAMILY = {"o1": 0.50, "o2": 0.549, "o3": 0.55}
MARKUP = "\"<b>'&</script>"


def row(
    name: str, value: float | None, *, better: Any = "reference", trace: Any = "above", **own: Any
) -> ScoreRow:
    return ScoreRow(
        name,
        value,
        own.pop("unit", "share"),
        better,
        (0.0, 1.0),
        trace=trace,
        reason="" if value is not None else "none",
        **own,
    )


def member(name: str, role: Any, *scores: ScoreRow, **series: Any) -> RunRecord:
    return RunRecord(
        "evaluate",
        name,
        "2026-11-24T13:00:00Z",
        {},
        {},
        {},
        Outcome("ok", 10.0),
        role,
        scores,
        series,
    )


def family(value: float, oracles: int = 3, **own: Any) -> list[RunRecord]:
    """An original, retrained models and one model called x, with one score s; numbers are made up."""
    retrained = [member(n, "oracle", row("s", v, **own)) for n, v in list(FAMILY.items())[:oracles]]
    return [
        member("original", "original", row("s", 0.9, **own)),
        *retrained,
        member("x", "unlearned", row("s", value, **own)),
    ]


def cell(records: list[RunRecord], model: str, name: str = "s") -> table.Cell:
    return next(r for r in table.build(records).rows if r.model == model).cells[name]
