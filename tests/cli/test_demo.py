"""`eigenforget demo`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eigenforget.record.verify import verify
from tests.experiments.bench.helpers import run_command


@pytest.mark.long
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run_command("demo", "--out", str(out)) == 0
    with open(out / "table.csv", newline="") as file:
        rows = {r["model"]: r for r in csv.DictReader(file)}
    assert list(rows) == [
        "original",
        "oracle 1",
        "oracle 2",
        "oracle 3",
        "muda",
        "finetune",
        "random_label",
        "head_mask",
    ]
    da = {name: float(r["da"]) for name, r in rows.items()}
    assert da["original"] + 0.1 < min(da["muda"], da["oracle 1"], da["oracle 2"])
    assert da["head_mask"] == da["original"] and rows["head_mask"]["nmi"] == rows["original"]["nmi"]
    assert (
        float(rows["muda"]["test_forget_accuracy"])
        <= 0.02
        >= float(rows["head_mask"]["test_forget_accuracy"])
    )
    assert (
        float(rows["muda"]["test_retain_accuracy"])
        >= float(rows["oracle 1"]["test_retain_accuracy"]) - 0.03
    )
    assert capsys.readouterr().out.strip().splitlines()[-1].strip().startswith("eigenforget train")
    assert (
        len(list((out / "records").glob("[0-9]*.json"))) == 8
        and (out / "report.html").stat().st_size < 8e6
    )
    checked = verify([out / "records"])
    assert (
        checked.status == 0
        and sum(f.where == str(out / "records" / "split.json") for f in checked.findings) == 2
    )
