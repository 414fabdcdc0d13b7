"""Tables from files and from scikit-learn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from eigenforget.core import spec
from eigenforget.data import DATASETS
from eigenforget.data.holdout import stratified
from eigenforget.data.table import Builtin, TableFile
from eigenforget.requests import split
from eigenforget.requests.where import Where
from tests.data.table_toys import COLOURS, OPTIONS, people, positions, reference, write
from tests.data.toys import refusal


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
        "age,y\n1,a\n2,b\n",
        {},
        "a stratified split needs two samples of each class; only one of class a, b",
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
