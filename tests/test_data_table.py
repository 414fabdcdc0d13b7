"""Tables against scikit-learn's scaler and encoder, and every bad file's one line."""

from __future__ import annotations

import csv
import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.data import DATASETS, Data
from eigenforget.data.holdout import stratified
from eigenforget.data.table import Builtin, TableFile
from eigenforget.requests import split
from eigenforget.requests.where import Where

COLOURS = ("red", "green", "blue")


def people(n: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "name": f"p{row:03}",
            "age": int(rng.integers(18, 90)),
            "income": float(rng.normal(3e4, 9e3)),
            "colour": COLOURS[row % 3],
            "zip": f"0{rng.integers(1000, 1003)}",
            "species": ("dog", "cat")[int(rng.integers(2))],
            "house": f"h{row % 7}",
        }
        for row in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def refusal(call: Any) -> str:
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def positions(data: Data) -> dict[str, list[int]]:
    """Rows of the file on each side, from ids as people() makes them."""
    return {
        side: [int(i[1:]) for i in index.ids]
        for side, index in (("train", data.train_index), ("test", data.test_index))
    }


def reference(
    rows: list[dict[str, Any]],
    chosen: dict[str, list[int]],
    numeric: list[str],
    categorical: list[str],
) -> dict[str, np.ndarray]:
    """Imputed, scaled and one-hot encoded by scikit-learn, fitted on the training rows."""

    def table(side: str, names: list[str], kind: Any) -> np.ndarray:
        return np.array([[rows[row][name] for name in names] for row in chosen[side]], dtype=kind)

    imputer, scaler = SimpleImputer(), StandardScaler()
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    scaler.fit(imputer.fit_transform(table("train", numeric, float)))
    encoder.fit(table("train", categorical, object))
    return {
        side: np.concatenate(
            [
                scaler.transform(imputer.transform(table(side, numeric, float))),
                encoder.transform(table(side, categorical, object)),
            ],
            axis=1,
        )
        for side in ("train", "test")
    }


OPTIONS: dict[str, Any] = {
    "label": "species",
    "id": "name",
    "group": "house",
    "categorical": ("colour", "zip"),
}


def test_a_table_is_what_scikit_learn_makes_of_it(tmp_path: Path) -> None:
    rows = people()
    data = TableFile(
        path=str(write(tmp_path / "d.csv", rows)), test_fraction=0.25, seed=3, **OPTIONS
    ).load()
    labels = np.array([row["species"] == "dog" for row in rows]).astype(int)
    held = stratified(labels, test_fraction=0.25, seed=3)
    chosen = positions(data)
    assert chosen == {"train": held.train.tolist(), "test": held.test.tolist()}
    expected = reference(rows, chosen, ["age", "income"], ["colour", "zip"])
    for side, source, index in (
        ("train", data.train, data.train_index),
        ("test", data.test, data.test_index),
    ):
        np.testing.assert_allclose(source.inputs.numpy(), expected[side], rtol=1e-5, atol=1e-6)
        assert source.labels().tolist() == labels[chosen[side]].tolist() == index.labels.tolist()
        assert index.groups.tolist() == [rows[row]["house"] for row in chosen[side]]
        for name in ("age", "income", "colour", "zip", "species", "house", "name"):
            assert index.columns[name].tolist() == [rows[row][name] for row in chosen[side]]
    assert data.class_names == ("cat", "dog") and data.input_shape == (8,)
    forgotten = split(Where(column="age", op="<", value=40), data.train_index).forget
    assert forgotten.tolist() == [
        n for n, row in enumerate(chosen["train"]) if rows[row]["age"] < 40
    ]


def test_a_split_column_unknown_categories_and_missing_values(tmp_path: Path) -> None:
    rows = people()
    for row, person in enumerate(rows):
        person["side"] = "test" if row % 4 == 0 else "train"
    rows[4]["colour"] = "ultraviolet"
    path = write(
        tmp_path / "d.csv",
        [
            {**person, "age": "" if row in (1, 4, 9) else person["age"]}
            for row, person in enumerate(rows)
        ],
    )
    table = TableFile(path=str(path), split="side", missing="mean", **OPTIONS)
    data = table.load()
    chosen = positions(data)
    assert chosen["test"] == list(range(0, 40, 4))
    for row in (1, 4, 9):
        rows[row]["age"] = float("nan")
    expected = reference(rows, chosen, ["age", "income"], ["colour", "zip"])
    for side, source in (("train", data.train), ("test", data.test)):
        np.testing.assert_allclose(source.inputs.numpy(), expected[side], rtol=1e-5, atol=1e-6)
    assert (data.test.inputs[1, 2:5] == 0).all() and data.test.inputs[1, 0] == pytest.approx(
        expected["test"][1, 0], abs=1e-6
    )
    assert np.isnan(data.test_index.columns["age"][1])
    line = refusal(TableFile(path=str(path), split="side", **OPTIONS).load)
    assert (
        line
        == f"{path}: column 'age' has no value in lines 3, 6, 11: give missing='mean', or drop the column"
    )


def test_integer_labels_and_content(tmp_path: Path) -> None:
    path = tmp_path / "d.tsv"
    path.write_text(
        "a\tb\tclass\n1\t2\t0\n1.0\t2e0\t3\n5\t-0\t0\n5\t0.0\t3\n7\t1\t0\n8\t1\t3\n",
        encoding="utf-8",
    )
    data = TableFile(path=str(path), label="class", test_fraction=0.34).load()
    assert (
        data.num_classes == 4
        and data.class_names == tuple("0123")
        and set(data.train.labels()) == {0, 3}
    )
    known = {
        name: digest
        for index in (data.train_index, data.test_index)
        for name, digest in zip(index.ids, index.content, strict=True)
    }
    assert (
        known["row/0"] == known["row/1"]
        and known["row/2"] == known["row/3"]
        and len(set(known.values())) == 4
    )
    assert (
        np.concatenate([data.train_index.columns["a"], data.test_index.columns["a"]]).dtype
        == np.float64
    )


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


GOOD = "age,colour,y\n" + "".join(f"{n},{COLOURS[n % 3]},{'ab'[n % 2]}\n" for n in range(12))
C = {"categorical": ("colour",)}
BAD: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty": ("", {}, "the file is empty"),
    "blank": ("\n \n", {}, "the file is empty"),
    "header only": ("a,y\n", {}, "the file has no rows"),
    "ragged": (GOOD.replace("3,red,b", "3,red"), C, "line 5 has 2 cells, the header has 3"),
    "too many": (
        'age,colour,y\n1,"two\nlines",b\n1,2,3,4\n',
        C,
        "line 4 has 4 cells, the header has 3",
    ),
    "open quote": ('a,y\n1,"b\n2,c\n', {}, "line 2: not CSV: unexpected end of data"),
    "latin-1": (
        GOOD.replace("4,green", "4,gr\xfcn").encode("latin-1"),
        C,
        "line 6 is not UTF-8 (byte 0xfc): save the file as UTF-8",
    ),
    "twice": ("a,a,y\n1,2,b\n", {}, "the header repeats the columns a"),
    "no name": ("a,,y\n1,2,b\n", {}, "every column needs a name; the header has: a, '', y"),
    "no label": (
        GOOD,
        {**C, "label": "Y"},
        "there is no column 'Y' (label); the columns: age, colour, y",
    ),
    "no id": (GOOD, {**C, "id": "nr"}, "there is no column 'nr' (id); the columns: age, colour, y"),
    "no drop": (
        GOOD,
        {**C, "drop": ("nr",)},
        "there is no column 'nr' (drop); the columns: age, colour, y",
    ),
    "no category": (
        GOOD,
        {"categorical": ("color",)},
        "there is no column 'color' (categorical); the columns: age, colour, y",
    ),
    "label as category": (
        GOOD,
        {"categorical": ("y",)},
        "column 'y' is categorical, so an input, but is also named as something else",
    ),
    "words": (
        GOOD,
        {},
        "columns hold words: 'colour' ('red' in line 2); name them in categorical=(…) or drop=(…)",
    ),
    "a code": (
        GOOD.replace("\n3,", "\n03,"),
        C,
        "columns hold words: 'age' ('03' in line 5); name them in categorical=(…) or drop=(…)",
    ),
    "nothing left": (
        GOOD,
        {"drop": ("age", "colour")},
        "no column is left as an input; the columns: age, colour, y",
    ),
    "repeated ids": (
        GOOD.replace("\n5,", "\n3,"),
        {"id": "age"},
        "column 'age': ids must be unique; repeated: 3 (3 in lines 5, 7)",
    ),
    "missing id": (
        GOOD.replace("\n3,", "\n,"),
        {**C, "id": "age"},
        "column 'age' (id) has no value in line 5",
    ),
    "missing label": (
        GOOD.replace("3,red,b", "3,red,"),
        C,
        "column 'y' (label) has no value in line 5",
    ),
    "missing category": (
        GOOD.replace("3,red", "3,"),
        C,
        "column 'colour' has no value in line 5: give missing='mean', or drop the column",
    ),
    "huge": (GOOD.replace("\n3,", "\n3e999,"), C, "column 'age' holds infinite numbers in line 5"),
    "regression": (
        GOOD.replace(",a", ",0.5").replace(",b", ",1"),
        C,
        "column 'y' holds 0.5: labels are integers or names of classes",
    ),
    "negative label": (
        GOOD.replace(",a", ",-1").replace(",b", ",1"),
        C,
        "given labels must be class numbers from 0 to 999999, got -1",
    ),
    "single": (
        GOOD + "12,red,c\n",
        C,
        "a stratified split needs two samples of each class; only one of class c",
    ),
    "split words": (
        GOOD,
        {"split": "colour"},
        "column 'colour' (split) must hold train or test in each row, got 'blue', 'green', 'red'",
    ),
    "no test": (
        "a,s,y\n1,train,0\n2,train,1\n",
        {"split": "s"},
        "column 's' (split) has no test rows",
    ),
    "new class": ("a,s,y\n1,train,p\n2,test,q\n", {"split": "s"}, "no training row is of class q"),
    "own name": (
        GOOD.replace("age", "id"),
        C,
        "column 'id' has the name of a column of the index: give id='id', or drop or rename it",
    ),
    "long": (
        GOOD.replace("red", "x" * 1001),
        C,
        "column 'colour' holds words of up to 1001 characters (at most 1000): name it in drop",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    content, fields, line = BAD[case]
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(TableFile(path=str(path), **{"label": "y", **fields}).load) == f"{path}: {line}"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a": 1, "y": "b"}\n[1]\n', "line 2: a row must be a JSON object, got list"),
        ('{"a": 1, "y": "b"}\n{"a": \n', "line 2: not JSON: "),
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


def test_unreadable_files(tmp_path: Path) -> None:
    assert refusal(TableFile(path=str(tmp_path / "no.csv"), label="y").load).endswith(
        "no.csv: cannot be read: No such file or directory"
    )
    assert refusal(TableFile(path=str(tmp_path / "d.xlsx"), label="y").load).endswith(
        "end in .csv, .tsv, .jsonl, .parquet, got 'd.xlsx'"
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [("iris", (150, 4, 3)), ("wine", (178, 13, 3)), ("breast_cancer", (569, 30, 2))],
)
def test_builtin_tables_are_scikit_learns(name: str, shape: tuple[int, int, int]) -> None:
    data = spec.parse(f"builtin(dataset={name!r}, seed=1)", DATASETS, "data set").load()
    bunch = getattr(datasets, f"load_{name}")()
    assert (len(data.train) + len(data.test), *data.input_shape, data.num_classes) == shape
    assert data.class_names == tuple(bunch.target_names)
    train = [int(i.removeprefix(f"{name}/")) for i in data.train_index.ids]
    scaler = StandardScaler().fit(bunch.data[train])
    for source, index in ((data.train, data.train_index), (data.test, data.test_index)):
        rows = [int(i.removeprefix(f"{name}/")) for i in index.ids]
        np.testing.assert_allclose(
            source.inputs.numpy(), scaler.transform(bunch.data[rows]), rtol=1e-4, atol=1e-5
        )
        assert source.labels().tolist() == bunch.target[rows].tolist()
        np.testing.assert_array_equal(index.columns[bunch.feature_names[2]], bunch.data[rows, 2])
    assert re.search(
        "Input should be 'iris', 'wine' or 'breast_cancer'",
        refusal(lambda: spec.parse("builtin(dataset='x')", DATASETS, "d")),
    )
    assert (
        Builtin(dataset="iris").load().digest
        == Builtin(dataset="iris").load().digest
        != Builtin(dataset="iris", seed=1).load().digest
    )
