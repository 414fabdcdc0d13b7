"""Files that promise more than memory holds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from eigenforget.data import memory
from eigenforget.data.fashion_mnist import read_idx
from eigenforget.data.memory import check_fits
from eigenforget.data.npz import read_npz
from eigenforget.data.readers import read_columns
from tests.data.test_fashion_mnist import GOOD_IDX, gzip
from tests.data.toys import refusal


def test_more_than_the_machine_has_is_refused_with_both_numbers() -> None:
    check_fits(1000, "x.npz")
    message = refusal(lambda: check_fits(10**18, "x.npz"))
    assert "x.npz" in message and f"{10**18:,}" in message


def test_packed_files_are_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        with packed.open("x.npy", "w") as member:
            np.save(member, np.zeros((100, 1000), dtype=np.uint8))
    (tmp_path / "images.gz").write_bytes(gzip.compress(GOOD_IDX))
    assert len(read_npz(tmp_path / "bomb.npz")["x"]) == 100
    monkeypatch.setattr(memory, "_memory", lambda: 5)
    assert (tmp_path / "bomb.npz").stat().st_size < 1000
    for call in (
        lambda: read_npz(tmp_path / "bomb.npz"),
        lambda: read_idx(tmp_path / "images.gz", dims=3),
    ):
        assert "5 bytes of memory" in refusal(call)


def test_parquet_says_how_much_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"u": [0.0] * 1000}), tmp_path / "a.parquet")
    monkeypatch.setattr(memory, "_memory", lambda: 5)
    assert "5 bytes of memory" in refusal(lambda: read_columns(tmp_path / "a.parquet"))


def test_numbers_of_parquet_are_held_once(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = np.random.default_rng(0).standard_normal(50_000)
    whole = {f"x{n}": values + n for n in range(20)} | {"id": np.arange(50_000)}
    parquet.write_table(arrow.table(whole), tmp_path / "a.parquet", row_group_size=20_000)
    before = arrow.total_allocated_bytes()
    found = read_columns(tmp_path / "a.parquet").columns
    size = sum(numbers.nbytes for numbers in whole.values())
    assert arrow.total_allocated_bytes() - before < size / 5
    for name, numbers in whole.items():
        np.testing.assert_array_equal(found[name].numbers, numbers)
    assert found["x1"].text[:9].tolist() == [repr(value) for value in whole["x1"][:9].tolist()]
