"""Made-up records of an analysis: of an original and of retrained models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eigenforget.evaluation.analysis.series import AnalysisSettings, of_layer
from eigenforget.record import Outcome, RunRecord, seal

PARTS = {"forget": 30, "retain": 60, "test_forget": 20, "test_retain": 40}


def rows(seed: int, own: float, width: int = 8) -> dict[Any, np.ndarray]:
    """Retain features in four directions, and forget features in these.

    `own` of the forget features lies in a direction that the retain features do not have.
    """
    rng = np.random.default_rng(seed)
    axes = np.zeros((4, width))
    axes[np.arange(4), np.arange(4)] = 3
    found: dict[Any, np.ndarray] = {}
    for part, count in PARTS.items():
        found[part] = axes[np.arange(count) % 4] + 0.2 * rng.normal(size=(count, width))
        if part.endswith("forget"):
            found[part] = (1 - own) * found[part] + own * 4 * np.eye(width)[5]
    return found


def series(
    seed: int, owns: Sequence[float], names: Sequence[str], drop: str = ""
) -> dict[str, Any]:
    """The series "analysis" of one model; seed 0 is the original."""
    found = {}
    for position, (name, own) in enumerate(zip(names, owns, strict=True)):
        features = {part: r for part, r in rows(seed, own).items() if part != drop}
        labels = {part: np.arange(len(r)) % 4 for part, r in features.items()}
        low, high = dict.fromkeys(features, 0.9), dict.fromkeys(features, 0.95)
        cka = {"original": low, "oracle": high} if seed else {"oracle": low}
        place = {"position": position, "headline": False}
        found[name] = {**place, **of_layer(features, AnalysisSettings(4, 0, labels)), "cka": cka}
    return found


def record(name: str, role: Any, found: dict[str, Any]) -> RunRecord:
    """A bare record with this series."""
    return RunRecord(
        "evaluate",
        name,
        "2026-11-24T13:00:00Z",
        {"request": {"spec": "by_class(label=3)"}, "layers_chosen": "automatically"},
        {},
        {"torch": "2.13.0"},
        Outcome("ok", 1.0),
        role,
        series={"analysis": found},
        non_claims=("No proof.",),
    )


def chain(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, sealed one after the other."""
    sealed: list[RunRecord] = []
    for r in records:
        sealed.append(seal(r, sealed[-1].digest if sealed else None))
    return sealed


def case(
    original: Sequence[float],
    retrained: Sequence[float],
    *,
    oracles: int = 3,
    drop: str = "",
    names: Sequence[str] = ("early", "late"),
) -> list[RunRecord]:
    """An original and retrained models, whose forget features lie by so much in a direction of
    their own at each layer.
    """
    found = [record("original", "original", series(0, original, names, drop))]
    found += [
        record(f"oracle {i}", "oracle", series(i, retrained, names, drop))
        for i in range(1, oracles + 1)
    ]
    return chain(found)
