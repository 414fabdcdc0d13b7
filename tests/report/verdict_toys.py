"""Models with the main scores, from which a verdict follows."""

from __future__ import annotations

from typing import Any

from eigenforget.record import (
    Outcome,
    RunRecord,
    ScoreRow,
)
from eigenforget.report import table

ORIGINAL = [0.998, 0.996, 0.921, 0.910, 0.532, 0.621, 0.962, 0.801, 0.797]
RETRAINED = [0.0, 0.997, 0.0, 0.911, 0.501, 0.978, 0.824, 0.764, 0.733]
ALSO_RETRAINED = [0.0, 0.995, 0.0, 0.913, 0.498, 0.970, 0.816, 0.760, 0.737]


def made(name: str, role: Any, values: list[float], **own: float) -> RunRecord:
    """An evaluate record with these scores, some replaced by name; it took 10 s. Numbers are made
    up.
    """
    scores = {**dict(zip(table.FIRST, values, strict=True)), **own}
    return RunRecord(
        kind="evaluate",
        name=name,
        role=role,
        created="2026-11-24T13:00:00Z",
        job={"request": "by_class(label=3)", "method": f"{name}()"},
        inputs={},
        environment={"device": "cpu"},
        outcome=Outcome("ok", 10.0),
        scores=tuple(ScoreRow(n, v, "share", "reference", (0.0, 1.0)) for n, v in scores.items()),
        claims=("measured",),
    )


def judged(values: list[float], **own: float) -> RunRecord:
    return made("judged", "unlearned", values, **own)


ORACLES = [made("oracle_1", "oracle", RETRAINED), made("oracle_2", "oracle", ALSO_RETRAINED)]
UNFORGOTTEN = [made("original", "original", ORIGINAL), *ORACLES]


def row_of(records: list[RunRecord], name: str) -> table.Row:
    return next(row for row in table.build(records).rows if row.model == name)
