"""Records, chains and refusals that the tests of this folder share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record import (
    Outcome,
    RecordError,
    RunRecord,
    ScoreRow,
    seal,
    write,
)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def made(name: str = "müda", **changes: Any) -> RunRecord:
    record = RunRecord(
        kind="evaluate",
        name=name,
        role="unlearned",
        created="2026-11-24T13:00:00Z",
        job={"method": {"spec": "muda(lr=0.1)"}, "seed": 0, "fractions": (0.1, 1e-7)},
        inputs={"data": A},
        environment={"device": "cpu"},
        outcome=Outcome("ok", 5.5, cost={"steps": 12}, outputs={"model": B}),
        scores=(
            ScoreRow("da", 0.981, "share", "reference", (0.0, 1.0), 0.97, 0.99),
            ScoreRow("mia_auc", None, "AUC", "reference", (0.0, None), reason="no finite loss"),
        ),
        claims=("Measured on this data.",),
        non_claims=("Other seeds.",),
    )
    return replace(record, **changes)


def chain(
    folder: Path, records: list[RunRecord], names: list[str] | None = None
) -> list[RunRecord]:
    """Seals the records one after the other and writes them under these file names."""
    folder.mkdir(exist_ok=True)
    sealed: list[RunRecord] = []
    for i, record in enumerate(records):
        sealed.append(seal(record, sealed[-1].digest if sealed else None))
        write(sealed[-1], folder / (names[i] if names else f"{i}.json"))
    return sealed


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(RecordError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message and "\n" not in message
    return message
