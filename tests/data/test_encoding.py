"""From columns to input vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eigenforget.data.table import TableFile
from tests.data.table_toys import OPTIONS, people, positions, reference, write
from tests.data.toys import refusal


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
