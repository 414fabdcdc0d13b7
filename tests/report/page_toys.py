"""Seven models with all scores and series of a page, and a reader of pages."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
from scipy import stats

from eigenforget.record import (
    Outcome,
    RunRecord,
    ScoreRow,
    seal,
)

METRICS = (
    "forget_accuracy",
    "retain_accuracy",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
    "cluster_f1",
)


# name: role, seconds, the metrics in that order. One class forgotten; made up.
MODELS: dict[str, tuple[str, float, list[float | None]]] = {
    "original": ("original", 62.0, [0.998, 0.996, 0.921, 0.910, 0.532, 0.621, 0.962, 0.801, 0.797]),
    "oracle_1": ("oracle", 56.0, [0.0, 0.997, 0.0, 0.911, 0.501, 0.978, 0.824, 0.764, 0.733]),
    "oracle_2": ("oracle", 60.0, [0.0, 0.995, 0.0, 0.913, 0.498, 0.970, 0.816, 0.760, 0.737]),
    "muda": ("unlearned", 5.5, [0.001, 0.962, 0.0, 0.892, 0.505, 0.981, 0.868, 0.759, 0.742]),
    "finetune": ("unlearned", 9.1, [0.412, 0.999, 0.371, 0.914, 0.561, 0.655, 0.953, 0.796, 0.790]),
    "twin": ("unlearned", 58.0, [0.002, 0.994, 0.0, 0.912, 0.499, 0.973, 0.818, 0.762, 0.736]),
    "head_mask": ("control", 0.1, [0.0, 0.996, 0.0, 0.915, None, 0.621, 0.962, 0.801, 0.797]),
}
NO_LOSS = "a masked logit has no finite loss"


def score(name: str, value: float | None) -> ScoreRow:
    better: Any = "higher" if name.endswith("retain_accuracy") else "reference"
    if value is None:
        return ScoreRow(name, None, "share", better, (0.0, 1.0), reason=NO_LOSS)
    return ScoreRow(
        name, value, "share", better, (0.0, 1.0), max(0.0, value - 0.012), min(1.0, value + 0.012)
    )


def series(name: str) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, name)))
    labels, decay = np.arange(40) % 10, np.append(0.5 ** np.arange(8), 0.0)
    curves = {
        form: np.sort(rng.uniform(size=20)).tolist()
        for form in ("frobenius_none", "energy_none", "energy_each")
    }
    return {
        "da_curve": {"k": list(range(1, 21)), "headline_k": 9, **curves},
        "pca": {
            "x": rng.normal(size=40).tolist(),
            "y": rng.normal(size=40).tolist(),
            "label": labels.tolist(),
            "id": [f"test/{i}" for i in range(40)],
            "forget": (labels == 3).tolist(),
            "explained": [0.312, 0.187],
        },
        "spectrum": {
            "retain": (decay / decay.sum()).tolist(),
            "forget": rng.dirichlet(np.ones(9)).tolist(),
        },
        "relearning": {
            "steps": [0, 1, 4],
            "curves": {n: rng.uniform(size=3).tolist() for n in ("10", "all")},
            "part": "test_forget",
        },
        "per_class": {"label": list(range(10)), "test": [None, *rng.uniform(size=9).tolist()]},
        "trace": [
            {"phase": p, "loss": 2.0 / (c + 1)} for c in range(3) for p in ("forget", "recover")
        ]
        if name == "muda"
        else [],
    }


def model_record(name: str, like: str = "", **changes: Any) -> RunRecord:
    role, seconds, values = MODELS[like or name]
    made = RunRecord(
        kind="evaluate",
        name=name,
        role=role,  # type: ignore[arg-type]
        created="2026-11-24T13:00:00Z",
        job={
            "request": {"spec": "by_class(label=3)", "resolved": {"label": 3}},
            "method": {"spec": f"{name}()"},
            "seed": 0,
        },
        inputs={"data": "sha256:" + "a" * 64},
        environment={"torch": "2.13.0", "device": "cpu"},
        outcome=Outcome("ok", seconds),
        scores=tuple(score(m, v) for m, v in zip(METRICS, values, strict=True)),
        series=series(name),
        claims=("The scores above were measured on the data with the digest given.",),
        non_claims=("That no other attack can tell the forgotten samples.",),
    )
    return replace(made, **changes)


def half(one: float, two: float) -> float:
    """Of the band of two retrained models: Student's t with one degree of freedom, and at least
    half a point of a share.
    """
    return max(
        0.005, float(stats.t.ppf(0.975, 1)) * abs(one - two) / math.sqrt(2) * math.sqrt(1 + 1 / 2)
    )


def refused(name: str) -> RunRecord:
    return model_record(
        name,
        "muda",
        outcome=Outcome("refused", 0.2, "needs whole classes, got 12 samples"),
        scores=(),
        series={},
    )


def sealed(records: list[RunRecord]) -> list[RunRecord]:
    made: list[RunRecord] = []
    for r in records:
        made.append(seal(r, made[-1].digest if made else None))
    return made


class Read(HTMLParser):
    """What a browser would see: tags with attributes, script contents, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.title = ""
        self.inside = ""
        self.by_id: dict[str, str] = {}
        self.last = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside, self.last = tag, str(dict(attrs).get("id"))
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside == "title":
            self.title += data
        elif self.inside != "style":
            self.words.append(data)
            self.by_id[self.last] = self.by_id.get(self.last, "") + data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def charts(self) -> set[str]:
        """Names of the figures."""
        ids = [str(a.get("id")) for tag, a in self.tags if tag == "figure"]
        return {name.removeprefix("chart-") for name in ids}

    def found(self, name: str) -> str:
        """The text of the element with this id, which holds no other element."""
        return self.by_id[name]
