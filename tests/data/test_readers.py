"""Files of rows: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenforget.data import Data, memory, readers
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


_ROWS = [["age", "y"], *([f"{n}.5", "ab"[n % 2]] for n in range(12))]


def _loaded(path: Path, text: str | bytes, **fields: Any) -> tuple[Data, list[str]]:
    """The data of a file of this content, and what was said about it."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = TableFile(path=str(path), **{"label": "y", **fields}).load()
    return data, [str(one.message) for one in said]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_delimiter_is_that_of_the_header(tmp_path: Path, mark: str) -> None:
    plain, said = _loaded(tmp_path / "a.csv", "\n".join(map(",".join, _ROWS)))
    assert not said
    data, said = _loaded(tmp_path / "b.csv", "\n".join(map(mark.join, _ROWS)))
    assert data.digest == plain.digest and len(said) == 1 and repr(mark) in said[0]
    data, said = _loaded(tmp_path / "b.csv", "\n".join(map(mark.join, _ROWS)), delimiter=mark)
    assert data.digest == plain.digest and not said


def test_a_comma_divides_cells_where_words_hold_semicolons(tmp_path: Path) -> None:
    rows = ["age,what;why;who,y", *(f'{n},"a;b",{"ab"[n % 2]}' for n in range(12))]
    data, said = _loaded(tmp_path / "a.csv", "\n".join(rows), drop=("what;why;who",))
    assert data.input_shape == (1,) and not said


@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas_are_points(tmp_path: Path, mark: str) -> None:
    plain, _ = _loaded(tmp_path / "a.csv", "\n".join(map(",".join, _ROWS)))
    text = "\n".join(map(mark.join, _ROWS)).replace(".", ",")
    data, said = _loaded(tmp_path / f"b.{'csv' if mark == ';' else 'tsv'}", text)
    assert data.digest == plain.digest
    assert any("0,5" in line and "0.5" in line and "age" in line for line in said)


def test_points_and_commas_in_one_column_are_words(tmp_path: Path) -> None:
    text = "\n".join(map(";".join, _ROWS)).replace("3.5", "3,5")
    assert "'age'" in refusal(lambda: _loaded(tmp_path / "a.csv", text))


@pytest.mark.parametrize("header", ["", '""', "Unnamed: 0"])
@pytest.mark.parametrize("first", [0, 1])
def test_the_index_of_pandas_is_no_input(tmp_path: Path, header: str, first: int) -> None:
    plain, _ = _loaded(tmp_path / "a.csv", "\n".join(map(",".join, _ROWS)))
    rows = [[header, *_ROWS[0]], *([str(n + first), *row] for n, row in enumerate(_ROWS[1:]))]
    text = "\n".join(map(",".join, rows))
    data, said = _loaded(tmp_path / "b.csv", text)
    assert data.digest == plain.digest and len(said) == 1 and "first column" in said[0]
    named, said = _loaded(tmp_path / "b.csv", text, id="Unnamed: 0")
    assert sorted(map(int, (*named.train_index.ids, *named.test_index.ids)))[0] == first
    assert not said and named.input_shape == (1,)


def test_a_first_column_without_name_that_numbers_no_rows_is_kept(tmp_path: Path) -> None:
    rows = [["", *_ROWS[0]], *([str(n % 3), *row] for n, row in enumerate(_ROWS[1:]))]
    data, said = _loaded(tmp_path / "a.csv", "\n".join(map(",".join, rows)))
    assert data.input_shape == (2,) and not said


@pytest.mark.parametrize("word", ["?", "NA", "", " "])
def test_what_stands_for_a_missing_number(tmp_path: Path, word: str) -> None:
    text = "\n".join(map(",".join, _ROWS)).replace("3.5", word)
    assert "line 5" in refusal(lambda: _loaded(tmp_path / "a.csv", text))
    data, said = _loaded(tmp_path / "a.csv", text, missing="mean")
    assert (
        np.isnan(
            np.concatenate([data.train_index.columns["age"], data.test_index.columns["age"]])
        ).sum()
        == 1
    )
    assert any(repr(word) in line for line in said) == (word in ("?", "NA"))


def test_a_question_mark_among_words_is_a_category_and_a_doubt(tmp_path: Path) -> None:
    rows = [["c", "y"], *([("red", "?", "blue")[n % 3], "ab"[n % 2]] for n in range(12))]
    data, said = _loaded(tmp_path / "a.csv", "\n".join(map(",".join, rows)), categorical=("c",))
    assert data.input_shape == (3,) and len(said) == 1 and "'?'" in said[0] and "'c'" in said[0]


def test_packed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeff" + "\n".join(map(",".join, _ROWS))
    plain, _ = _loaded(tmp_path / "a.csv", text)
    data, _ = _loaded(tmp_path / "a.csv.gz", gzip.compress(text.encode()))
    assert data.digest == plain.digest
    for broken in (b"no gzip", gzip.compress(text.encode())[:-9]):
        assert "cannot be read" in refusal(lambda b=broken: _loaded(tmp_path / "a.csv.gz", b))
    monkeypatch.setattr(memory, "_memory", lambda: 100)
    line = refusal(lambda: _loaded(tmp_path / "a.csv.gz", gzip.compress(text.encode())))
    assert "memory" in line and "100 bytes" in line


def test_a_long_file_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "pyarrow_where_installed", lambda: None)
    monkeypatch.setattr(readers, "_LONG", 10)
    _, said = _loaded(tmp_path / "a.csv", "\n".join(map(",".join, _ROWS)))
    assert len(said) == 1 and "eigenforget[tables]" in said[0]
