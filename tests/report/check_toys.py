"""Made-up records for the checks: an original, retrained models, and models like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eigenforget.record import Outcome, RunRecord, ScoreRow
from eigenforget.report.checks import Check, checks
from tests.report_toys import made

DIGESTS = [f"sha256:{i:064x}" for i in range(10)]
ANCHORS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "forget_accuracy": (1.0, (0.10, 0.12, 0.11)),
    "retain_accuracy": (0.99, (0.98, 0.985, 0.99)),
    "test_retain_accuracy": (0.9, (0.9, 0.91, 0.905)),
    "mia_auc": (0.7, (0.5, 0.51, 0.49)),
    "da": (0.6, (0.95, 0.96, 0.955)),
    "lp_forget": (0.95, (0.5, 0.52, 0.51)),
    "nmi": (0.8, (0.5, 0.52, 0.51)),
    "zrf": (0.4, (0.8, 0.82, 0.81)),
    "relearn_all_auc": (0.9, (0.3, 0.32, 0.31)),
}
"""A score: the original's value and the retrained models'. An unlearned model has their mean unless
a test says otherwise.
"""


TRACES: dict[str, Any] = {
    "forget_accuracy": "above",
    "mia_auc": "above",
    "zrf": "below",
    "relearn_all_auc": "above",
}
SIZES = {"forget": 5000, "retain": 45000, "test": 10000, "test_forget": 5000}


def row(name: str, value: float | None, interval: tuple[float, float] | None = None) -> ScoreRow:
    low, high = interval or (None, None)
    better: Any = "higher" if name.endswith("retain_accuracy") else "reference"
    reason = "not measured" if value is None else ""
    return ScoreRow(
        name, value, "share", better, (0.0, 1.0), low, high, reason, TRACES.get(name, "")
    )


def mean(name: str) -> float:
    return float(np.mean(ANCHORS[name][1]))


def model(
    name: str = "one", role: Any = "unlearned", values: dict[str, Any] | None = None, **fields: Any
) -> RunRecord:
    """A model like the retrained ones in all scores but `values`; a None leaves the score out, a
    pair is a value with its interval.
    """
    given = {n: mean(n) for n in ANCHORS} | (values or {})
    pairs = {n: v if isinstance(v, tuple) else (v, None) for n, v in given.items() if v is not None}
    job = {"sizes": SIZES, **fields.pop("job", {})}
    inputs = {
        "data": DIGESTS[0],
        "split": DIGESTS[1],
        "checked_model": DIGESTS[5],
        **fields.pop("inputs", {}),
    }
    cost = {"seconds": 1.0, "cpu_seconds": 1.0, **fields.pop("cost", {})}
    return made(
        name,
        role,
        [row(n, v, i) for n, (v, i) in pairs.items()],
        job=job,
        inputs=inputs,
        cost=cost,
        **fields,
    )


def original(**fields: Any) -> RunRecord:
    inputs = {"checked_model": DIGESTS[2], **fields.pop("inputs", {})}
    return model(
        fields.pop("name", "original"),
        "original",
        {n: v for n, (v, _) in ANCHORS.items()},
        inputs=inputs,
        **fields,
    )


def oracles(count: int = 3, **fields: Any) -> list[RunRecord]:
    cost = fields.pop("cost", {"seconds": 10.0, "cpu_seconds": 10.0})
    values = [{n: v[i] for n, (_, v) in ANCHORS.items()} for i in range(count)]
    return [
        model(f"oracle {i + 1}", "oracle", v, cost=cost, **fields) for i, v in enumerate(values)
    ]


def among(*others: RunRecord) -> list[RunRecord]:
    """Original, three retrained models and these."""
    return [original(), *oracles(), *others]


def failed(name: str, status: Any = "failed", role: Any = "unlearned") -> RunRecord:
    return replace(model(name, role), outcome=Outcome(status, 0.0, "the loss was NaN"), scores=())


def check(code: str, records: Sequence[RunRecord]) -> Check:
    return next(c for c in checks(records) if c.code == code)


def twins_of(pairs: int) -> dict[str, Any]:
    return {
        "near_duplicates": {
            "total": pairs,
            "pairs": [[f"f{i}", f"r{i}", 0.99] for i in range(min(pairs, 10))],
        }
    }


def with_method(**method: Any) -> dict[str, Any]:
    return {"job": {"method": {"spec": "m()", **method}}}


def kept(share: float) -> dict[str, Any]:
    return {"job": {"unchanged_weights": {"share": share, "buffers": None}}}


NEAR_ORIGINAL = {"da": 0.62, "lp_forget": 0.94, "nmi": 0.79}
HEAD = ("head", "control", NEAR_ORIGINAL)
