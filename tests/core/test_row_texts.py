"""Texts of rows: as Python spells them, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eigenforget.core import row_texts
from eigenforget.core.row_texts import CellForm

_RNG = np.random.default_rng(0)
_FLOATS = np.concatenate(
    [
        _RNG.normal(size=50),
        10.0 ** _RNG.integers(-300, 300, 80) * _RNG.normal(size=80),
        [
            0.0,
            -0.0,
            1e9,
            1e-4,
            np.inf,
            -np.inf,
            np.nan,
            5.0,
            999999999.0,
            2.5e-5,
            1e15,
            1e16,
            5e-324,
        ],
    ]
)
_N = len(_FLOATS)
_COLUMNS: list[np.ndarray] = [
    _FLOATS,
    np.arange(_N) - 7,
    np.array(["a é", "", "日本"] * _N)[:_N],
    np.arange(_N) % 2 == 0,
    np.linspace(0, 1, _N, dtype=np.float32),
    np.array([f"o{row}" for row in range(_N)], dtype=object),
    np.arange(_N, dtype=np.uint64) + 2**63,
]
_FORMS: list[tuple[CellForm, Callable[[list[Any]], str]]] = [
    (CellForm(), lambda row: "\x1f".join(map(str, row))),
    (
        CellForm([f"{n}=" for n in range(7)], spelled=format),
        lambda row: "\x1f".join(f"{n}={value}" for n, value in enumerate(row)),
    ),
    (
        CellForm(counted=True, between=""),
        lambda row: "".join(f"\x1e{len(str(value))}\x1f{value!s}" for value in row),
    ),
]


@pytest.fixture(params=["pyarrow", "without"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pyarrow":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(row_texts, "_FEW", 0 if request.param == "pyarrow" else 10**9)
    monkeypatch.setattr(row_texts, "_CELLS", 400)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("number", range(len(_FORMS)))
def test_rows_are_spelled_as_python_does(number: int) -> None:
    form, spelled = _FORMS[number]
    expected = [spelled(list(row)) for row in zip(*_COLUMNS, strict=True)]
    assert list(row_texts.row_texts(_COLUMNS, form)) == expected
    order = np.arange(_N)[::-1]
    assert list(row_texts.row_texts(_COLUMNS, form, order)) == expected[::-1]


@pytest.mark.usefixtures("library")
def test_texts_that_are_no_unicode() -> None:
    columns = [np.array(["a", "\ud800"]), np.arange(2)]
    assert list(row_texts.row_texts(columns, CellForm())) == ["a\x1f0", "\ud800\x1f1"]
