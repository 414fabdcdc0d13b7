"""Files of rows: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from eigenforget.data.table import TableFile
from tests.data.table_toys import OPTIONS, people, write
from tests.data.toys import refusal


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    rows = people()
    paths = [
        write(tmp_path / "a.csv", rows),
        write(tmp_path / "b.tsv", rows, delimiter="\t"),
        tmp_path / "c.jsonl",
    ]
    paths.append(
        write(
            tmp_path / "d.csv",
            rows,
            delimiter=";",
            quoting=csv.QUOTE_ALL,
            lineterminator="\r\n\r\n",
            encoding="utf-8-sig",
        )
    )
    paths[2].write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        pass  # read_columns refuses it then, see below
    else:
        paths.append(tmp_path / "e.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), paths[-1])
    made = [
        TableFile(path=str(path), delimiter=";" if path.name == "d.csv" else ",", **OPTIONS).load()
        for path in paths
    ]
    for data in made[1:]:
        assert data.digest == made[0].digest
        assert (data.train.inputs == made[0].train.inputs).all() and (
            data.test.inputs == made[0].test.inputs
        ).all()


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    line = refusal(TableFile(path=str(tmp_path / "d.parquet"), label="y").load)
    assert line.endswith(
        "d.parquet: Parquet needs pyarrow, which is not installed: pip install 'eigenforget[tables]'"
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a": 1, "y": "b"}\n[1]\n', "line 2: a row must be a JSON object, got list"),
        ('{"a": 1, "y": "b"}\n{"a": \n', "line 2: not JSON: "),
        ('{"a": 1, "y": "b"}\n{"a": 1, "y": "b", "y": "c"}\n', "line 2: not JSON: the object has"),
        ('{"a": 1, "y": "b"}\n{"a": 1, "y": "\\ud800"}\n', "line 2: not JSON: '\\ud800"),
        ('{"a": 1, "y": "b"}\n{"a": 1, "\\udfff": 1}\n', "line 2: not JSON: '\\udfff"),
        (f'{{"a": 1, "y": "b"}}\n{{"a": {"9" * 5000}, "y": "b"}}\n', "line 2: not JSON: "),
        (
            '{"a": 1, "y": "b"}\n\n{"a": {"b": 1}}\n',
            "line 3: 'a' holds a dict, allowed: a string, number, true, false or null",
        ),
        (
            '{"a": 1, "y": "b"}\n{"a": "x", "y": "b"}\n{"a": 2, "y": "c"}\n{"a": 2, "y": "c"}',
            "columns hold words: 'a' ('x' in line 2)",
        ),
    ],
)
def test_bad_json_lines_are_refused(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    assert refusal(TableFile(path=str(path), label="y", test_fraction=0.5).load).startswith(
        f"{path}: {line}"
    )


def test_integers_of_thousands_of_digits_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,y\n" + f"1,{'9' * 5000}\n" * 9)
    assert "labels are integers" in refusal(TableFile(path=str(path), label="y").load)
    path.write_text("a,y\n" + f"{'9' * 5000},1\n" * 9)
    assert "infinite" in refusal(TableFile(path=str(path), label="y").load)


def test_unreadable_files(tmp_path: Path) -> None:
    assert refusal(TableFile(path=str(tmp_path / "no.csv"), label="y").load).endswith(
        "no.csv: cannot be read: No such file or directory"
    )
    line = refusal(TableFile(path=str(tmp_path / "d.xlsx"), label="y").load)
    assert "d.xlsx" in line and ".jsonl" in line and ".csv.gz" in line
