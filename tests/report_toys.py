"""Made-up evaluate records with every series that the report draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eigenforget.record import Outcome, RunRecord, ScoreRow, seal
from eigenforget.record.schema import Role

CLASSES, GONE = 10, 3
ROLES: dict[str, Role] = {
    "original": "original",
    "oracle 1": "oracle",
    "oracle 2": "oracle",
    "oracle 3": "oracle",
    "one": "unlearned",
    "two": "unlearned",
    "three": "unlearned",
    "four": "unlearned",
    "mask": "control",
}
SCORES = (
    "forget_accuracy",
    "retain_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
)


def score(
    name: str, value: float | None, span: tuple[float | None, float | None] = (0.0, 1.0)
) -> ScoreRow:
    return ScoreRow(
        name, value, "share", "reference", span, reason="" if value is not None else "not measured"
    )


def made(
    name: str,
    role: Role,
    scores: Sequence[ScoreRow],
    *,
    cost: dict[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    """A bare record; cost: as in the record, "seconds" being the wall time."""
    spent = dict(cost or {})
    outcome = Outcome("ok", spent.pop("seconds", 0.0), cost=spent)
    given: dict[str, Any] = {
        "job": {},
        "inputs": {},
        "environment": {"device": "cpu"},
        "series": {},
        **fields,
    }
    return RunRecord(
        "evaluate",
        name,
        "2026-11-24T13:00:00Z",
        outcome=outcome,
        role=role,
        scores=tuple(scores),
        **given,
    )


def further_series(seed: int, *, points: int = 40, label: Any = None) -> dict[str, Any]:
    """Those that not every record has. label: shown in the place of a number, as class and as id."""
    rng = np.random.default_rng(seed)
    labels = np.arange(points) % CLASSES
    whose = {
        "label": labels.tolist() if label is None else [label] * points,
        "id": [f"test/{i}" if label is None else label for i in range(points)],
        "forget": (labels == GONE).tolist(),
    }
    places = [
        {axis: [float(f"{v:.6g}") for v in rng.normal(scale=9, size=points)] for axis in "xy"}
        for _ in range(3)
    ]
    true, false = np.sort(rng.integers(1, 40, 30)), np.sort(rng.integers(0, 1000, 30))
    trace = [
        {
            "epoch": c,
            "phase": "forget",
            "loss": 1 / (c + 1),
            "da": 0.5 + 0.1 * c,
            "forget_accuracy": 1 - 0.2 * c,
            "retain_accuracy": 0.9,
        }
        for c in range(3)
    ]
    return {
        "pca": {**places[0], **whose, "explained": [0.3, 0.2]},
        "tsne": {**places[1], **whose},
        "umap": {**places[2], **whose},
        "confusion": {
            "counts": rng.integers(0, 30, (CLASSES, CLASSES)).tolist(),
            "forgotten": [GONE],
        },
        "mia_roc": {
            "members": 40,
            "others": 1000,
            "true": [0, *true.tolist(), 40],
            "false": [0, *false.tolist(), 1000],
            "at": {"0.001": 0.02, "0.01": 0.0, "0.1": 0.5},
        },
        "trace": trace,
        "class_alignment": {
            "label": [c for c in range(CLASSES) if c != GONE],
            "energy": [float(f"{v:.6g}") for v in rng.uniform(size=CLASSES - 1)],
            "k": 1,
        },
    }


def whole(*, points: int = 40, models: dict[str, Role] = ROLES) -> list[RunRecord]:
    """Sealed records of these models with scores, costs and all series but those of layers."""
    records: list[RunRecord] = []
    for i, (name, role) in enumerate(models.items()):
        rng = np.random.default_rng(100 + i)
        decay = 0.5 ** np.arange(8)
        curves = {
            form: np.sort(rng.uniform(size=20)).tolist()
            for form in ("frobenius_none", "energy_each")
        }
        series = {
            **further_series(i, points=points),
            "da_curve": {"k": list(range(1, 21)), "headline_k": 9, **curves},
            "spectrum": {
                "retain": (decay / decay.sum()).tolist(),
                "forget": rng.dirichlet(np.ones(9)).tolist(),
            },
            "relearning": {
                "steps": [0, 1, 4],
                "curves": {n: rng.uniform(size=3).tolist() for n in ("10", "all")},
            },
            "per_class": {
                "label": list(range(CLASSES)),
                "test": [None, *rng.uniform(size=CLASSES - 1).tolist()],
            },
        }
        spread = 0.02 if role == "oracle" else 0.2
        scores = [score(s, float(np.clip(0.5 + spread * rng.normal(), 0, 1))) for s in SCORES]
        scores += [score(f"da@{layer}", float(rng.uniform())) for layer in ("first", "second")]
        cost = {
            "seconds": 60.0 if role == "oracle" else 2.0 + i,
            "cpu_seconds": 100.0 if role == "oracle" else 1.0 + 3 * i,
        }
        records.append(
            made(
                name, role, scores, cost=cost, series=series, job={"method": {"spec": f"{name}()"}}
            )
        )
    sealed: list[RunRecord] = []
    for r in records:
        sealed.append(seal(r, sealed[-1].digest if sealed else None))
    return sealed
