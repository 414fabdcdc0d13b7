"""pyarrow and the csv module make the same table of a file, or pyarrow stands back."""

from __future__ import annotations

import random
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.data import arrow_tables, readers
from eigenforget.data.columns import ColumnTable, typed_column

pyarrow = pytest.importorskip("pyarrow")
_CELLS = (
    *("1", "2.5", "-0", "-0.0", "0", "007", "+5", ".5", "5.", "1e5", "3e999", "inf", "nan", "NA"),
    *("", "?", "abc", "a b", " a", "b ", "é", "\u3000x", "0x1F", "9" * 20, str(2**63), "1,5"),
    *('"q"', '"a ""b"" c"', '"two\nlines"', '" s"', '5"', '"1.5"', '""', "\t4\t", "1_0", '"a,b"'),
    *("null", "-nan", "x\ty", "2;3", "1\x1c", "a\rb", "\0"),
)


def _some_csv(rng: random.Random) -> tuple[str, str]:
    """The text of a file that may be wrong, and what divides its cells."""
    width, mark = rng.randint(1, 4), rng.choice(",,;\t")
    line_end = rng.choice(["\n", "\n", "\r\n", "\n\n"])
    pools = [
        rng.sample(_CELLS, rng.randint(1, 4)) if rng.random() < 0.7 else ["1", "2", "3.5"]
        for _ in range(width)
    ]
    rows = [[rng.choice(pool) for pool in pools] for _ in range(rng.randint(0, 8))]
    header = [rng.choice(('"c{}"', "c{}", "c{}")).format(n) for n in range(width)]
    start = rng.choice(["", "", "\ufeff", "\n"])
    return start + line_end.join(map(mark.join, [header, *rows])) + rng.choice(["", line_end]), mark


def _outcome(path: Path, mark: str) -> ColumnTable | str:
    try:
        return readers.read_columns(path, mark, written=("c0",))
    except EigenforgetError as error:
        return str(error)


def _cells(table: ColumnTable) -> list[Any]:
    """All that there is to know of a table, comparable bit by bit."""
    known: list[Any] = [table.places.tolist()]
    for name, column in table.columns.items():
        numbers = column.numbers
        if numbers is not None:
            known += [name, numbers.dtype, numbers.tobytes(), column.marks]
        if numbers is None or name == "c0":
            known += [name, column.text.tolist()]
    return known


@pytest.mark.filterwarnings("ignore")
def test_both_readers_agree_on_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, path, taken = random.Random(0), tmp_path / "a.csv", 0
    for _ in range(300):
        text, mark = _some_csv(rng)
        path.write_bytes(text.encode())
        with monkeypatch.context() as patched:
            patched.setattr(arrow_tables, "_BLOCK", rng.choice([7, 64, 1 << 20]))
            found = _outcome(path, mark)
            with path.open("rb") as file:
                taken += arrow_tables.csv_lines(file, mark) is not None
            patched.setattr(readers, "pyarrow_where_installed", lambda: None)
            expected = _outcome(path, mark)
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected, text
        else:
            assert _cells(found) == _cells(expected), text
    assert taken > 150  # the comparison is one of two readers


def test_words_far_down_keep_the_cells_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_tables, "_BLOCK", 64)
    path = tmp_path / "late.csv"
    path.write_text("a,b\n" + "".join(f"{n}.50,{n}\n" for n in range(50)) + "word,x\n")
    table = readers.read_columns(path)
    assert table.columns["a"].text.tolist() == [f"{n}.50" for n in range(50)] + ["word"]
    assert table.columns["b"].text[-2:].tolist() == ["49", "x"]
    assert table.columns["a"].numbers is None and table.where(table.columns["b"].text == "x") == (
        "line 52"
    )


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2, 3], "int8"),
        ([1, None, 3], "int64"),
        ([1, 2**63, 3], "uint64"),
        ([0.1, float("nan"), None], "float32"),
        ([0.5, 1.5, None], "float16"),
        ([True, False, True], "bool_"),
        ([True, None, False], "bool_"),
        ([None, None, None], "null"),
        ([None, None, None], "string"),
        (["a", None, "b"], "large_string"),
        (["a", "a", "b"], "string"),
    ],
)
def test_typed_columns_are_those_of_their_cells(cells: list[Any], kind: str) -> None:
    array = pyarrow.array(
        np.array(cells, dtype=np.float16) if kind == "float16" else cells,
        getattr(pyarrow, kind)(),
        from_pandas=False,
    )
    found = arrow_tables.from_arrow(pyarrow.table({"c": array})).columns["c"]
    expected = typed_column(array.to_pylist())
    assert found.text.tolist() == expected.text.tolist()
    if expected.numbers is None:
        assert found.numbers is None
    else:
        assert found.numbers is not None and found.numbers.dtype == expected.numbers.dtype
        np.testing.assert_array_equal(found.numbers, expected.numbers)


def test_dates_decimals_and_categories_of_parquet() -> None:
    table = pyarrow.table(
        {
            "when": [date(2024, 5, 31), None],
            "price": [Decimal("1.50"), Decimal("2.25")],
            "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
            "pair": [[1, 2], [3, 4]],
        }
    )
    found = arrow_tables.from_arrow(table.drop_columns("pair")).columns
    assert found["when"].text.tolist() == ["2024-05-31", ""]
    assert found["price"].known().tolist() == [1.5, 2.25]
    assert found["kind"].known().tolist() == ["x", "y"]
    with pytest.raises(EigenforgetError, match="pair"):
        arrow_tables.from_arrow(table)
