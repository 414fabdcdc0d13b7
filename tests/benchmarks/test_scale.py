"""What many oracles take, and what other libraries take beside ours: both run in a small form."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import beside
import scale


def test_records_of_many_oracles_are_verified_listed_and_reported(tmp_path: Path) -> None:
    verified, listed, reported = scale.of_records(5, tmp_path)
    assert (verified.count, listed.count, reported.count) == (7, 5, 5)
    assert len(list(tmp_path.glob("*.json"))) == 7 and (tmp_path / "report.html").exists()


def test_oracles_differ_a_little_and_shares_stay_shares() -> None:
    original, *oracles, model = scale.chain(3)
    assert [record.role for record in (original, *oracles, model)] == [
        "original",
        *["oracle"] * 3,
        "unlearned",
    ]
    values = [score.value for record in oracles for score in record.scores if score.name == "nmi"]
    assert len(set(values)) == 3 and all(0 <= value <= 1 for value in values)


def test_a_method_of_ours_stands_beside_another_one_sample_by_sample() -> None:
    seen = []

    def theirs(model: nn.Module, data: beside.Samples) -> None:
        for inputs, labels in beside.Batches(data.retain, 8):
            nn.functional.cross_entropy(model(inputs), labels).backward()
            seen.append(len(labels))
        with torch.no_grad():
            model(data.forget[0])  # is not trained on

    pair = beside.Pair("toy", "loop", "finetune(epochs=1)", 0, theirs)
    row = beside.row(pair, beside.digits_like(20), 1)
    assert seen == [8, 8, 2] * 2 and row.endswith("| ≥ 0 | yes |") and "µs a sample" in row
