"""`eigenforget evaluate`."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from eigenforget.cli import main

CLASS3 = "by_class(label=3)"


COLUMNS = [
    "model",
    "forget_accuracy",
    "retain_accuracy",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
    "cluster_f1",
    "seconds",
]


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def test_evaluate_writes_table_records_and_page(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    run(
        "evaluate",
        made / "muda.safetensors",
        "--original",
        made / "original.safetensors",
        "--oracle",
        made / "oracle.safetensors",
        "--forget",
        CLASS3,
        "--out",
        out,
    )
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(COLUMNS) <= set(rows[0]) and list(rows[0])[:2] == ["model", "role"]
    assert [r["model"] for r in rows] == ["original", "oracle 1", "muda"]
    original, oracle, muda = rows
    assert (
        float(muda["test_forget_accuracy"]) <= 0.05 < 0.8 < float(original["test_forget_accuracy"])
    )
    assert float(original["da"]) < float(muda["da"]) and float(original["da"]) < float(oracle["da"])
    assert float(muda["seconds"]) > 0 and all(0 <= float(r["nmi"]) <= 1 for r in rows)
    assert len(list((out / "records").glob("[0-9]*.json"))) == 3
    page = (out / "report.html").read_text()
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', page), (
        "the page needs no network"
    )
    run("report", out / "records", "-o", tmp_path / "again.html")
    assert (tmp_path / "again.html").stat().st_size > 100_000
    with pytest.raises(SystemExit) as ended:
        run("verify", out / "records")
    assert ended.value.code == 0
    target = next((out / "records").glob("*muda*.json"))
    target.write_text(target.read_text().replace('"da"', '"dA"', 1))
    with pytest.raises(SystemExit) as ended:
        run("verify", out / "records")
    assert ended.value.code == 2
