"""The page of published tables is what its tables and our scores files say."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from eigenforget.methods import METHODS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
published: Any = importlib.import_module("published")
TABLES = tomllib.loads((ROOT / "benchmarks" / "published.toml").read_text(encoding="utf-8"))[
    "table"
]


@pytest.fixture(scope="module")
def text() -> str:
    return published.page()


def test_the_committed_page_is_made_again_bit_for_bit(text: str) -> None:
    committed = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert text == committed, "run benchmarks/published.py"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table["title"])
def test_every_row_has_a_number_for_each_column_and_names_a_model_of_ours(
    table: dict[str, Any],
) -> None:
    known = {"original", "oracle", *(kind.name for kind in METHODS)}
    for row in table["rows"]:
        assert len(row["printed"]) == len(table["columns"])
        assert row.get("name", "oracle") in known
    assert table["why"] and table["source"] and table["experiment"]


def test_a_cell_is_the_mean_over_training_seeds_and_its_gap() -> None:
    studies = published.pages.studies_of(published.pages.RESULTS / "compare_cifar10_class")
    values, halves, centres, gaps = [], [], [], []
    for study in studies:
        of = {r.name: {s.name: s.value for s in r.scores} for r in study.records}
        oracles = [of[name] for name in of if name.startswith("oracle")]
        mine, band = of["neg_grad_plus"], study.table.oracles["da"].band
        values.append(mine["da"])
        centres.append(sum(o["da"] for o in oracles) / len(oracles))
        halves.append(band.half)
        keys = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy")
        mean = {k: sum(o[k] for o in oracles) / len(oracles) for k in keys}
        gaps.append(sum(abs(mine[k] - mean[k]) for k in keys) / 3)
    count = len(studies)
    da = published.Column("DA", "da", 1)
    units = sum((v - c) / h for v, c, h in zip(values, centres, halves, strict=True)) / count
    assert (
        published.cell(studies, "neg_grad_plus", da) == f"{sum(values) / count:.3f} ({units:+.1f})"
    )
    assert published.cell(studies, "oracle", da).endswith(f"± {sum(halves) / count:.3f}")
    gap = published.Column("gap", "average_gap", 100)
    assert published.cell(studies, "neg_grad_plus", gap) == f"{100 * sum(gaps) / count:.2f}"
    elsewhere = published.Column("DA", "da", 1, "at_random")
    assert published.cell(studies, "neg_grad_plus", elsewhere) == "–"
