"""Report: gaps and verdicts against hand calculations; one self-contained, deterministic, escaped page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eigenforget.record import Outcome, RunRecord, ScoreRow, seal
from eigenforget.report import page, table

# name: role, seconds, then the metrics in the order of CSV_COLUMNS. Class 3 of Fashion-MNIST forgotten, made up around
# the values in the project's design notes.
MODELS: dict[str, tuple[str, float, list[float | None]]] = {
    "original": ("original", 62.0, [0.998, 0.996, 0.921, 0.910, 0.532, 0.621, 0.962, 0.801, 0.797]),
    "oracle_1": ("oracle", 56.0, [0.0, 0.997, 0.0, 0.911, 0.501, 0.978, 0.824, 0.764, 0.733]),
    "oracle_2": ("oracle", 60.0, [0.0, 0.995, 0.0, 0.913, 0.498, 0.970, 0.816, 0.760, 0.737]),
    "muda": ("unlearned", 5.5, [0.001, 0.962, 0.0, 0.892, 0.505, 0.981, 0.868, 0.759, 0.742]),
    "finetune": ("unlearned", 9.1, [0.412, 0.999, 0.371, 0.914, 0.561, 0.655, 0.953, 0.796, 0.790]),
    "random_label": ("unlearned", 3.2, [0.009, 0.981, 0.012, 0.899, 0.471, 0.702, 0.931, 0.788, 0.776]),
    "head_mask": ("control", 0.1, [0.0, 0.996, 0.0, 0.915, None, 0.621, 0.962, 0.801, 0.797]),
}
METRICS = table.CSV_COLUMNS[1:-1]


def score(name: str, value: float | None) -> ScoreRow:
    half = None if value is None else 0.012
    return ScoreRow(
        name=name,
        value=value,
        unit="share",
        better="higher" if name.endswith("retain_accuracy") else "reference",
        range=(0.0, 1.0),
        low=None if value is None or half is None else max(0.0, value - half),
        high=None if value is None or half is None else min(1.0, value + half),
        reason="" if value is not None else "a masked logit has no finite loss",
    )


def series(name: str, values: list[float | None]) -> dict[str, Any]:
    """Plausible curves, maps, spectra and a loss trace around a model's DA and linear-probe values."""
    rng, da, lp = np.random.default_rng(len(name)), values[5] or 0.5, values[6] or 0.5
    k = np.arange(1, 128)
    curve = {form: 1 - (1 - da) * np.exp(-(k - 9) / w) for form, w in (("frobenius_none", 4), ("frobenius_each", 6))}
    curve |= {form: 1 - (1.25 - da) * np.exp(-(k - 9) / w) for form, w in (("energy_none", 9), ("energy_each", 12))}
    centres = np.stack([np.cos(np.arange(10) * 0.63), np.sin(np.arange(10) * 0.63)], axis=1) * 5
    spread = 0.6 + 9 * (0.98 - lp)
    labels = np.arange(300) % 10
    points = centres[labels] + rng.normal(size=(300, 2)) * np.where(labels == 3, spread, 0.6)[:, None]
    decay = np.exp(-np.arange(128) / 9.0) + 1e-6
    return {
        "da_curve": {"k": k.tolist(), "headline_k": 9, **{f: np.clip(v, 0, 1).tolist() for f, v in curve.items()}},
        "pca": {
            "x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "label": labels.tolist(),
            "id": [f"test/{i}" for i in range(300)], "forget": (labels == 3).tolist(), "explained": [0.312, 0.187],
        },
        "spectrum": {"retain": (decay / decay.sum()).tolist(), "forget": ((d := decay**1.6) / d.sum()).tolist()},
        "trace": [
            {"cycle": c, "phase": p, "loss": (2.0 if p == "forget" else 0.6) * 0.7**c + 0.05} for c in range(10) for p in ("forget", "recover")
        ] if name == "muda" else [],
    }  # fmt: skip


def record(name: str, **changes: Any) -> RunRecord:
    role, seconds, values = MODELS[name]
    spec = {"oracle": "retrain(seed=1)", "original": "train(seed=0)"}.get(role, f"{name}()")
    made = RunRecord(
        kind="evaluate",
        name=name,
        role=role,  # type: ignore[arg-type]
        created="2026-11-24T13:00:00Z",
        job={
            "data": {"spec": "fashion_mnist(limit=20000)", "resolved": {"name": "fashion_mnist", "fields": {"limit": 20000}}},
            "request": {"spec": "by_class(classes=(3,))", "resolved": {"name": "by_class", "fields": {"classes": [3]}}},
            "method": {"spec": spec, "resolved": {"name": name, "fields": {"lr": 0.1}}},
            "seed": 0,
        },
        inputs={"data": "sha256:" + "a" * 64, "split": "sha256:" + "b" * 64},
        environment={"python": "3.11.2", "torch": "2.13.0", "device": "cpu", "threads": 1, "precision": "32-true"},
        outcome=Outcome("ok", seconds),
        scores=tuple(score(m, v) for m, v in zip(METRICS, values, strict=True)),
        series=series(name, values),
        claims=("The scores above were measured on the data with the digest given.",),
        non_claims=("That no other attack can tell the forgotten samples.", "Anything about other seeds."),
    )
    return replace(made, **changes)


def chained(records: list[RunRecord]) -> list[RunRecord]:
    sealed: list[RunRecord] = []
    for r in records:
        sealed.append(seal(r, sealed[-1].digest if sealed else None))
    return sealed


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return chained([record(name) for name in MODELS])


@pytest.fixture(scope="module")
def html(records: list[RunRecord]) -> str:
    return page.render(records, "Forgetting class 3 of Fashion-MNIST")
